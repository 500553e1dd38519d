"""Workers: who runs what in this process."""

"""The daemon: the runner as a process."""

"""Workers: a coordinator claims assignments, a pool starts workers, and each worker reads, folds and commits."""

"""How far projections are: checkpoints and commits, leases, builds, what was set aside, and the status of it all."""

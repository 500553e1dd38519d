"""The progress of projections: checkpoints and commits, leases, builds, events that were set aside, and status."""

"""Checks of datasets, weights, checkpoints and the machine, for the `doctor` command."""

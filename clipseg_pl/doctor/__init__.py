"""Checks of what the commands read: datasets, weights, checkpoints, the machine."""

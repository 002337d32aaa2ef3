"""Toy scenes on disk, in the layouts in which the real datasets are published."""

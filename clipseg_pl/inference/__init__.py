"""Segmentation of your own photos, without a dependency on Lightning."""

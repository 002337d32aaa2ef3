"""Datasets: read files and return raw samples, without Lightning or CLIP."""

"""The toy world: a drawn miniature of the real datasets, and the pre-training of its CLIP."""

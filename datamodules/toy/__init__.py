"""The toy world: a drawn miniature of the real datasets, with the pre-training of its encoders."""

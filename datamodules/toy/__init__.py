"""Toy world: small drawn versions of the real datasets, and pre-training of encoders on them."""

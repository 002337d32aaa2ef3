"""Weights files: search, reading and writing, and building CLIP from them."""

"""Masks for photos of your own; imports no lightning."""

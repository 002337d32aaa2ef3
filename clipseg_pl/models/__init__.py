"""Backbones, decoders and what composes them; plain torch."""

"""Drawn scenes of the toy world: kinds of things, backgrounds and composition."""

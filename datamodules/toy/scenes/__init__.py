"""The drawn scenes of the toy world: kinds of things, backgrounds, arrangement."""

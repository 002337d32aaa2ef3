"""Training and evaluation in Lightning: the module, its schedule, and callbacks."""

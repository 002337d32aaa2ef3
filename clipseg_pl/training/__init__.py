"""Training and evaluation with Lightning: the module, its schedule and its callbacks."""

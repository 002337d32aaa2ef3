"""Callbacks that write checkpoints, results, masks, panels and progress."""

"""Text and visual prompts, pure functions."""

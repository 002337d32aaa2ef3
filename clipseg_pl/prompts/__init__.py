"""Text and visual prompts as pure functions."""

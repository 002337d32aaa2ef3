"""Text prompts, visual prompts and the masks that mark objects in support images."""

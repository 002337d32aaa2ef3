"""Pre-training of the CLIP and the ViT that come with the package."""

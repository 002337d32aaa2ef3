"""Pre-training of the toy CLIP and the toy ViT that are shipped with the package."""

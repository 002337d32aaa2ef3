"""Datasets and Lightning datamodules: read files and produce batches."""

import os

# prevents albumentations from checking for a newer version over the network on import
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

"""Files to batches."""

import os

# albumentations asks the network for its latest version when imported, unless told not to
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

"""Files of weights: where they lie, how they are read, and the CLIP that they make."""

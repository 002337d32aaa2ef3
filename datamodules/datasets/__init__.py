"""Files to raw samples: no lightning, no CLIP."""

"""A page to try the segmenter on."""

"""Writers of toy datasets, in the published layouts of the real ones."""

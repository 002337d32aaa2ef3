"""One run and many: folders, launching, sweeps and the tables of the paper."""

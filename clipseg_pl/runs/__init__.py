"""Folders and launching of runs, sweeps, and the tables of the paper."""

"""The tables of the paper: list of runs, stored results, report and plots."""

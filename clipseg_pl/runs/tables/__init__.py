"""The tables of the paper as lists of runs, and what they came to."""

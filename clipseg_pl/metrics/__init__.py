"""The metrics of the paper."""

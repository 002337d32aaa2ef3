"""Report of a fine-tuning, made from the results files of its run."""

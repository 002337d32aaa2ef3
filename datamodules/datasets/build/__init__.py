"""Lists of words that the package carries, and what makes them again."""

"""Scripts that generate the word lists shipped with the package."""

"""One module a verb that is not lightning's."""

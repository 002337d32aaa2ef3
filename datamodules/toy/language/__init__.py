"""Language of the toy world: vocabulary, phrases and captions."""

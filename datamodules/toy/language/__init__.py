"""What the toy world says of its scenes: vocabulary, phrases, captions."""

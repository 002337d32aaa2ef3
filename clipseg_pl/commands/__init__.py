"""The verbs; one module for each that is not lightning's."""

VERBS = {
    "fit": "train a decoder, as a config says",
    "validate": "measure a checkpoint under a protocol",
    "test": "the same on the test split",
    "predict": "write the masks of the test split",
    "segment": "segment your own photos by text",
    "toy": "write the toy world's datasets, in the layouts of the real ones",
}

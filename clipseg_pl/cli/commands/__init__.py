"""The verbs; one module for each that is not lightning's."""

VERBS = {
    "fit": "train a decoder, as a config says",
    "validate": "measure a checkpoint under a protocol",
    "test": "the same on the test split",
    "predict": "write the masks of the test split, or of your own photos",
    "segment": "segment your own photos by words and examples",
    "export": "write a model for Hugging Face, the authors' code or ONNX, or take one over",
    "demo": "serve a page to try a model on: type, paint, move thresholds",
    "figure": "show what a model makes of the paper's prompts, as one picture",
    "alignment": "measure visual prompt engineering on CLIP alone (Table 2)",
    "sweep": "run a grid of values one after the other, from a W&B sweep file",
    "tables": "fill in the tables of the paper, run by run",
    "doctor": "look at datasets, weights and checkpoints: what is missing, what cannot be used",
    "toy": "write the toy world's datasets, in the layouts of the real ones",
}

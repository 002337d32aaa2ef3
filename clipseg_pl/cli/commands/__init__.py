"""The commands of `python -m clipseg_pl`: one module each, except the four of LightningCLI."""

import argparse

COMMANDS = {
    "fit": "train a decoder from a config",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test split",
    "report": "write the report of a fine-tuning from its results",
    "predict": "save masks for the test split or for your own photos",
    "segment": "segment photos with text and image prompts",
    "export": "convert a model to or from Hugging Face, ONNX and the authors' format",
    "demo": "serve a web page for trying a model on photos",
    "figure": "draw the results for the paper's example prompts (Figures 4 and 6)",
    "alignment": "compare visual prompt engineering methods on CLIP alone (Table 2)",
    "sweep": "run a W&B sweep file locally, one run after the other",
    "tables": "run the experiments of the paper's tables and write the results",
    "doctor": "check datasets, weights, checkpoints and this machine for problems",
    "toy": "generate the toy world's datasets, in the file layouts of the real ones",
}
"""Name and one-line summary of every command, in the order of the help text."""


class HelpFormatter(argparse.HelpFormatter):
    """Wraps long texts, but leaves texts with line breaks unchanged, so that examples copy well."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)

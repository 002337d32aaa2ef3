"""CLIPSeg on disk, read and written: checkpoints, the authors' files, Hugging Face, ONNX."""

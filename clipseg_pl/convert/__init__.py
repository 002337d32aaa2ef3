"""Import and export of CLIPSeg: checkpoints, the authors' files, Hugging Face and ONNX."""

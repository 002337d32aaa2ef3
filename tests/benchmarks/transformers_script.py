"""Segment photos with transformers as its documentation does. It does not import this project.

python transformers_script.py MODEL_FOLDER PHOTO_OR_FOLDER OUT_FOLDER PROMPT [PROMPT ...]
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor


def main(model_folder: str, photos: str, out: str, *prompts: str) -> None:
    """Write one mask per photo and prompt, at the size of the photo."""
    processor = CLIPSegProcessor.from_pretrained(model_folder)
    model = CLIPSegForImageSegmentation.from_pretrained(model_folder).eval()
    folder = Path(photos)
    for file in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        photo = Image.open(file).convert("RGB")
        copies = [photo] * len(prompts)  # the model requires as many images as texts
        inputs = processor(text=prompts, images=copies, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits.view(len(prompts), 1, 352, 352)
        size = photo.height, photo.width
        probability = F.interpolate(logits.sigmoid(), size, mode="bilinear")[:, 0]
        for prompt, mask in zip(prompts, probability > 0.3, strict=True):
            image = Image.fromarray(mask.to(torch.uint8).mul(255).numpy())
            image.save(Path(out) / f"{file.stem}_{prompt}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])

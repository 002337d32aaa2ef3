"""Segmentation by the names of 150 classes, which share one encoding of the image."""

import torch
from torch.nn import functional as F

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.protocols.semantic import SemanticProtocol
from clipseg_pl.sample import Batch, Classes, Prompt, Sample, collate
from clipseg_pl.training.module import CLIPSegModule
from tests.benchmarks.test_phrasecut_size import run_code

CLASSES, SIDE = 150, 352
PEAK = """
import torch
from tests.benchmarks.test_label_maps import CLASSES, build, draw
with torch.inference_mode():
    build().validation_step(draw(CLASSES, (1024, 2048)), 0)
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]  # in kB
print(int(peak.split()[1]) / 2**20)
"""


def build() -> CLIPSegModule:
    """Return a random ViT-B/16 that evaluates label maps."""
    backbone, protocol = CLIPBackbone(pretrained=False), SemanticProtocol()
    module = CLIPSegModule(backbone, FiLMDecoder, protocol=protocol).eval()
    protocol.classes = Classes(tuple(f"class {number}" for number in range(CLASSES)))
    return module


def draw(classes: int, size: tuple[int, int]) -> Batch:
    """Return a noise image with a label map of some height and width."""
    empty = torch.empty(1, 0, 0, dtype=torch.bool)
    prompts = [
        Prompt(
            prompt_id=str(number),
            query_mask=empty,
            valid_mask=empty,
            phrase=f"class {number}",
            text_prompt=f"a photo of a class {number}.",
            supports=[],
            mix_weight=1.0,
            class_id=number,
            negative=False,
        )
        for number in range(classes)
    ]
    image = torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.randint(CLASSES, (1, *size), dtype=torch.int16)
    return collate([Sample(query_image=image, query_size=size, prompts=prompts, label_map=labels)])


@torch.inference_mode()
def test_150_classes_against_single_prompts(in_turn, record):
    module, size = build(), (480, 640)
    together, single = draw(CLASSES, size), draw(1, size)

    def one_prompt():
        return F.interpolate(module(single).sigmoid(), size, mode="bilinear", antialias=True)

    ways = {"together": lambda: module.validation_step(together, 0), "single": one_prompt}
    seconds = in_turn(ways, 5)
    record(
        "label map of 480 x 640 pixels, 150 classes at once",
        CLASSES * seconds["single"] / seconds["together"],
        "x",
        ">= 15",
        f"{seconds['together']:.2f} s against 150 passes of {seconds['single']:.3f} s",
    )


def test_peak_memory(record):
    (peak,) = run_code(PEAK)
    record("label map of 1024 x 2048 pixels, 150 classes: peak memory", peak, "GiB", "< 2")

"""Evaluation of several sentences per image, which share one encoding of the image."""

import torch

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.protocols.general_referring import GeneralReferringProtocol
from clipseg_pl.sample import Prompt, Sample, collate
from clipseg_pl.training.module import CLIPSegModule
from tests.benchmarks.peers import draw_images

IMAGES, SENTENCES, SIZE = 2, 3, (480, 640)


def sample(image, number, count):
    """Return an image with some sentences, whose masks have the size of a COCO photo."""
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[:, 50:200, 80:300] = True
    prompts = [
        Prompt(
            prompt_id=str(number + place),
            query_mask=mask,
            valid_mask=torch.ones_like(mask),
            phrase="a thing",
            text_prompt=f"the man in shirt number {number + place} on the left",
            supports=[],
            mix_weight=1.0,
            class_id=-1,
            negative=False,
        )
        for place in range(count)
    ]
    return Sample(query_image=image, query_size=SIZE, prompts=prompts)


@torch.inference_mode()
def test_evaluation_of_three_sentences_per_image(in_turn, record):
    backbone = CLIPBackbone(pretrained=False, text_cache=0)  # every sentence is new
    protocol = GeneralReferringProtocol()
    module = CLIPSegModule(backbone, FiLMDecoder, protocol=protocol).eval()
    images, total = draw_images(IMAGES), IMAGES * SENTENCES
    grouped = collate([sample(i, SENTENCES * n, SENTENCES) for n, i in enumerate(images)])
    single = [collate([sample(images[n // SENTENCES], n, 1)]) for n in range(total)]

    def one_by_one():
        for batch in single:
            module.validation_step(batch, 0)

    numbers = []
    for work in (one_by_one, lambda: module.validation_step(grouped, 0)):
        protocol.reset()
        work()
        numbers.append(protocol.compute(0.5))
    assert numbers[0].keys() == numbers[1].keys()
    assert all(abs(value - numbers[1][name]) < 1e-3 for name, value in numbers[0].items())
    ways = {"grouped": lambda: module.validation_step(grouped, 0), "single": one_by_one}
    seconds = in_turn(ways, 5)
    rates = {name: total / found for name, found in seconds.items()}
    record(
        "evaluation of 3 sentences per image, masks of 480 x 640 pixels",
        rates["grouped"] / rates["single"],
        "x",
        ">= 2.5",
        f"{rates['grouped']:.2f} sentences/s against {rates['single']:.2f} one by one",
    )

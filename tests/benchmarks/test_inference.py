"""Several prompts on one photo, compared with a full pass of the peer per prompt."""

import pytest
import torch

from tests.benchmarks.peers import build_pair, draw_images, in_bf16

KINDS = {  # our way, the peer's
    "float32 both": ("ours", "peer"),
    "bfloat16 both": ("ours, bf16", "peer, bf16"),
    "bfloat16 against the peer's default": ("ours, bf16", "peer"),
}
GOALS = {1: (1.3, 1.3, 3), 16: (10, 10, 20)}
ROUNDS = {1: 15, 16: 3}


@pytest.fixture(scope="module")
def pair():
    return build_pair()


def of_text(pair):
    """Segment with one text prompt; the peer gets tokens."""
    ours, theirs = pair
    image, words = draw_images(1), ["a photo of a brown dog on the grass"]
    tokens = ours.backbone.text_encoder.tokenizer(words)
    tokens = tokens[:, : int(tokens.argmax(1)) + 1]  # the peer pads only to the longest text
    pixels, owner = ours.backbone.normalise(image), torch.zeros(1, dtype=torch.long)

    def our_way():
        return ours(image, ours.backbone.embed_text(words), owner)[:, 0]

    def their_way():
        return theirs(pixel_values=pixels, input_ids=tokens).logits.view(1, *image.shape[2:])

    return our_way, their_way


def of_vectors(pair, prompts):
    """Segment with several prompts, given as conditional vectors to both."""
    ours, theirs = pair
    image = draw_images(1)
    vectors = torch.randn(prompts, 512, generator=torch.Generator().manual_seed(0))
    pixels = ours.backbone.normalise(image).expand(prompts, -1, -1, -1).contiguous()
    owner = torch.zeros(prompts, dtype=torch.long)

    def our_way():
        return ours(image, vectors, owner)[:, 0]

    def their_way():
        return theirs(pixel_values=pixels, conditional_embeddings=vectors).logits

    return our_way, their_way


@pytest.mark.parametrize("prompts", GOALS)
@torch.inference_mode()
def test_prompts_about_one_photo(pair, prompts, in_turn, record):
    ours, theirs = of_text(pair) if prompts == 1 else of_vectors(pair, prompts)
    expected = theirs()
    assert (ours() - expected).abs().max() < 1e-4 * expected.std()
    assert (in_bf16(ours)() - expected).abs().mean() < 0.02 * expected.std()
    ways = {"ours, bf16": in_bf16(ours), "ours": ours, "peer, bf16": in_bf16(theirs)}
    seconds = in_turn({**ways, "peer": theirs}, ROUNDS[prompts])
    for (kind, (our_way, their_way)), goal in zip(KINDS.items(), GOALS[prompts], strict=True):
        record(
            f"one photo, {prompts} {'prompt' if prompts == 1 else 'prompts'}: {kind}",
            seconds[their_way] / seconds[our_way],
            "x",
            f">= {goal}",
            f"{1e3 * seconds[our_way]:.0f} ms against {1e3 * seconds[their_way]:.0f} ms",
        )


@torch.inference_mode()
def test_zero_shot_pascal(pair, in_turn, record):
    """21 prompts on each of 8 photos, compared with 21 passes of the peer."""
    ours, theirs = pair
    images, vectors = draw_images(8), torch.randn(21, 512)
    pixels = ours.backbone.normalise(images)
    owner = torch.arange(8).repeat_interleave(21)

    def our_way():
        return ours(images, vectors.repeat(8, 1), owner)[:, 0]

    def their_way():
        shown = (vector.expand(8, -1) for vector in vectors)
        found = [theirs(pixel_values=pixels, conditional_embeddings=v).logits for v in shown]
        return torch.stack(found, 1).flatten(0, 1)  # 8 21 H W -> prompts H W

    expected = their_way()
    assert (our_way() - expected).abs().max() < 1e-4 * expected.std()
    seconds = in_turn({"ours": our_way, "peer": their_way}, 2)
    record(
        "zero-shot Pascal, 21 prompts a photo, batch 8: float32 both",
        seconds["peer"] / seconds["ours"],
        "x",
        ">= 15",
        f"{seconds['ours']:.1f} s against {seconds['peer']:.1f} s",
    )

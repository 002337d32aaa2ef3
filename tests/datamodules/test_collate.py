"""Collating samples into batches."""

import torch

from clipseg_pl.sample import Prompt, Sample, collate, has_support


def prompt(name, supports=0, weight=0.25, negative=False):
    mask = torch.full((1, 4, 6), not negative)
    return Prompt(
        prompt_id=name,
        query_mask=mask,
        valid_mask=torch.ones_like(mask),
        phrase=f"{name} phrase",
        text_prompt=f"a photo of {name}.",
        supports=[torch.full((3, 4, 6), ord(name) + i, dtype=torch.uint8) for i in range(supports)],
        mix_weight=weight,
        class_id=ord(name),
        negative=negative,
    )


def sample(shade, *prompts):
    image = torch.full((3, 4, 6), shade, dtype=torch.uint8)
    return Sample(query_image=image, query_size=(40 + shade, 60), prompts=list(prompts))


def test_prompts_index_images_and_supports_index_prompts():
    batch = collate(
        [
            sample(1, prompt("a", 2), prompt("b", weight=1.0)),
            sample(2, prompt("c", 1, negative=True)),
            sample(3, prompt("d"), prompt("e", 1, 0.75), prompt("f", 3)),
        ]
    )
    assert batch["query_image"].shape == (3, 3, 4, 6)
    assert batch["query_image"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert batch["query_size"].tolist() == [[41, 60], [42, 60], [43, 60]]
    assert batch["prompt_id"] == list("abcdef")
    assert batch["phrase"][2] == "c phrase" and batch["text_prompt"][5] == "a photo of f."
    assert batch["query_index"].tolist() == [0, 0, 1, 2, 2, 2]
    assert batch["prompt_index"].tolist() == [0, 0, 2, 4, 5, 5, 5]
    assert batch["visual_prompt"][:, 0, 0, 0].tolist() == [97, 98, 99, 101, 102, 103, 104]
    assert has_support(batch).tolist() == [True, False, True, False, True, True]
    assert batch["mix_weight"].tolist() == [0.25, 1.0, 0.25, 0.25, 0.75, 0.25]
    assert batch["class_id"].tolist() == [97, 98, 99, 100, 101, 102]
    assert batch["negative"].tolist() == [False, False, True, False, False, False]
    assert batch["query_mask"].flatten(1).all(1).tolist() == [True, True, False, True, True, True]


def test_batch_without_supports_has_no_visual_prompts():
    batch = collate([sample(1, prompt("a")), sample(2, prompt("b"), prompt("c"))])
    assert batch["visual_prompt"].shape == (0, 3, 4, 6)
    assert batch["prompt_index"].shape == (0,) and batch["prompt_index"].dtype == torch.int64
    assert not has_support(batch).any()


def test_no_samples_give_an_empty_batch():
    batch, whole = collate([]), collate([sample(1, prompt("a", 1))])
    assert batch.keys() == whole.keys() and all(len(value) == 0 for value in batch.values())
    tensors = {key: value for key, value in whole.items() if torch.is_tensor(value)}
    assert all(batch[key].ndim == value.ndim for key, value in tensors.items())
    assert not has_support(batch).any()


def test_tensors_have_the_documented_types():
    for samples in ([], [sample(1, prompt("a"))], [sample(1, prompt("a", 1))]):
        batch = collate(samples)
        types = {
            "query_image": torch.uint8,
            "query_size": torch.int64,
            "query_index": torch.int64,
            "query_mask": torch.bool,
            "valid_mask": torch.bool,
            "visual_prompt": torch.uint8,
            "prompt_index": torch.int64,
            "mix_weight": torch.float32,
            "class_id": torch.int64,
            "negative": torch.bool,
        }
        assert {key: batch[key].dtype for key in types} == types

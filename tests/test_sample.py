"""Collation of samples into batches."""

import pytest
import torch

from clipseg_pl.sample import Prompt, Sample, collate, has_support, select_images

SIZE = (4, 6)


def prompt(name: str, supports: int = 0, **changes) -> Prompt:
    made = Prompt(
        prompt_id=name,
        query_mask=torch.full((1, *SIZE), name.endswith("1")),
        valid_mask=torch.ones(1, *SIZE, dtype=torch.bool),
        phrase=name,
        text_prompt=f"a photo of a {name}.",
        supports=[torch.full((3, *SIZE), 10 * k, dtype=torch.uint8) for k in range(supports)],
        mix_weight=0.25 if supports else 1.0,
        class_id=-1,
        negative=False,
    )
    return Prompt(**{**made, **changes})


def sample(value: int, *prompts: Prompt) -> Sample:
    image = torch.full((3, *SIZE), value, dtype=torch.uint8)
    return Sample(query_image=image, query_size=(40 + value, 60), prompts=list(prompts))


@pytest.fixture
def batch():
    return collate(
        [
            sample(0, prompt("a0", supports=2)),
            sample(1, prompt("b0"), prompt("b1", supports=1), prompt("b2", negative=True)),
            sample(2, prompt("c0", class_id=7)),
        ]
    )


def test_prompts_have_the_index_of_their_image(batch):
    assert batch["query_index"].tolist() == [0, 1, 1, 1, 2]
    assert batch["prompt_id"] == batch["phrase"] == ["a0", "b0", "b1", "b2", "c0"]
    assert batch["text_prompt"][2] == "a photo of a b1."
    assert batch["query_image"][:, 0, 0, 0].tolist() == [0, 1, 2]
    assert batch["query_size"].tolist() == [[40, 60], [41, 60], [42, 60]]
    assert batch["query_mask"].flatten(1).all(1).tolist() == [False, False, True, False, False]


def test_supports_have_the_index_of_their_prompt(batch):
    assert batch["prompt_index"].tolist() == [0, 0, 2]
    assert batch["visual_prompt"][:, 0, 0, 0].tolist() == [0, 10, 0]
    assert has_support(batch).tolist() == [True, False, True, False, False]


def test_shapes_and_types_of_a_batch(batch):
    wanted = {
        "query_image": ((3, 3, *SIZE), torch.uint8),
        "query_size": ((3, 2), torch.int64),
        "coco_id": ((3,), torch.int64),
        "query_index": ((5,), torch.int64),
        "query_mask": ((5, 1, *SIZE), torch.bool),
        "valid_mask": ((5, 1, *SIZE), torch.bool),
        "target_size": ((5, 2), torch.int64),
        "visual_prompt": ((3, 3, *SIZE), torch.uint8),
        "prompt_index": ((3,), torch.int64),
        "mix_weight": ((5,), torch.float32),
        "class_id": ((5,), torch.int64),
        "negative": ((5,), torch.bool),
    }
    tensors = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
    assert {key: (tuple(t.shape), t.dtype) for key, t in tensors.items()} == wanted
    assert batch["mix_weight"].tolist() == [0.25, 1, 0.25, 1, 1]
    assert batch["negative"].tolist() == [False, False, False, True, False]
    assert batch["class_id"].tolist() == [-1, -1, -1, -1, 7]


def test_targets_of_different_sizes_are_padded_with_invalid_pixels():
    small, large = prompt("a0"), prompt("b0")
    small |= {"query_mask": torch.ones(1, 3, 9, dtype=torch.bool)}
    small |= {"valid_mask": torch.ones(1, 3, 9, dtype=torch.bool)}
    large |= {"query_mask": torch.ones(1, 6, 2, dtype=torch.bool)}
    large |= {"valid_mask": torch.ones(1, 6, 2, dtype=torch.bool)}
    batch = collate([sample(0, small), sample(1, large)])
    assert batch["target_size"].tolist() == [[3, 9], [6, 2]]
    for key in ("query_mask", "valid_mask"):
        assert batch[key].shape == (2, 1, 6, 9)
        assert batch[key][0, 0, :3].all() and not batch[key][0, 0, 3:].any()
        assert batch[key][1, 0, :, :2].all() and not batch[key][1, 0, :, 2:].any()


def test_batch_without_supports_has_empty_tensors():
    batch = collate([sample(0, prompt("a0")), sample(1, prompt("b0"))])
    assert batch["visual_prompt"].shape == (0, 3, *SIZE)
    assert batch["visual_prompt"].dtype == torch.uint8
    assert batch["prompt_index"].shape == (0,) and batch["prompt_index"].dtype == torch.int64
    assert not has_support(batch).any()


def test_batch_and_samples_do_not_share_memory():
    original = sample(0, prompt("a0"))
    collate([original])["query_image"].fill_(9)
    assert not original["query_image"].any()


@pytest.mark.parametrize("kept", [[0], [1], [2], [0, 2], [1, 2], [0, 1, 2]])
def test_selected_images_equal_a_batch_of_their_samples(kept):
    samples = [
        sample(0, prompt("a0", supports=2)),
        sample(1, prompt("b0"), prompt("b1", supports=1), prompt("b2", negative=True)),
        sample(2, prompt("c0", supports=1, class_id=7), prompt("c1", supports=3)),
    ]
    samples[1]["coco_id"] = 42
    whole, part = collate(samples), collate([samples[number] for number in kept])
    found = select_images(whole, torch.isin(torch.arange(3), torch.tensor(kept)))
    assert found.keys() == part.keys()
    for key, value in part.items():
        same = torch.equal(found[key], value) if torch.is_tensor(value) else found[key] == value
        assert same, key

"""The full model: images, prompts and supports do not influence each other.

Rows are compared with a tolerance of 1e-5, not bit by bit. The BLAS library uses other kernels for
matrices of another height, so sums are rounded in another order. In addition, torch's vectorised
kernels round the last elements of a tensor differently. The measured difference is 2e-7 for logits
from -0.4 to 0.3.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.tiny_clipseg import tiny_model

WORDS = ["a dog", "grass", "a red car", "sky", "a man on a horse", "something to sit on"]
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny_model()


def photos(random, count):
    return torch.randint(0, 256, (count, 3, 48, 64), generator=random, dtype=torch.uint8)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_every_row_of_a_batch_equals_a_batch_of_one(model, data):
    """Compares B images, P prompts in any order and S supports with one prompt at a time."""
    images = data.draw(st.integers(1, 4))
    owners = data.draw(st.lists(st.integers(0, images - 1), min_size=1, max_size=8))
    prompts = st.integers(0, len(owners) - 1)
    belongs = torch.tensor(data.draw(st.lists(prompts, max_size=6)), dtype=torch.long)
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    queries, supports = photos(random, images), photos(random, len(belongs))
    supports = supports[..., :48]
    weights = torch.rand(len(owners), generator=random)
    words = [WORDS[int(torch.randint(6, (), generator=random))] for _ in owners]
    with torch.inference_mode():
        vectors = model.conditional(words, supports, belongs, weights)
        together = model(queries, vectors, torch.tensor(owners))
        assert together.shape == (len(owners), 1, 48, 64)
        for row, owner in enumerate(owners):
            own = supports[belongs == row]
            index = torch.zeros(len(own), dtype=torch.long)
            vector = model.conditional([words[row]], own, index, weights[row : row + 1])
            torch.testing.assert_close(vectors[row], vector[0], **CLOSE)
            single = model(queries[owner : owner + 1], vector, torch.zeros(1, dtype=torch.long))
            torch.testing.assert_close(together[row], single[0], **CLOSE)


@pytest.mark.parametrize("count", [5, 64, 65, 200])
def test_order_of_prompts_does_not_change_masks(model, count):
    random = torch.Generator().manual_seed(count)
    vectors = torch.randn(count, model.backbone.shape.embed_dim, generator=random)
    owner = torch.randint(3, (count,), generator=random)
    order = torch.randperm(count, generator=random)
    with torch.inference_mode():
        encoding = model.encode(photos(random, 3))
        logits = model.decode(encoding, vectors, owner)
        permuted = model.decode(encoding, vectors[order], owner[order])
    torch.testing.assert_close(permuted, logits[order], **CLOSE)
    spread = (logits[1:] - logits[:-1]).abs().amax((1, 2, 3))
    assert spread.min() > 1e-2  # a swapped row would be detected


def test_order_of_images_does_not_change_masks(model):
    random = torch.Generator().manual_seed(0)
    images, vectors = photos(random, 6), torch.randn(6, model.backbone.shape.embed_dim)
    order = torch.randperm(6, generator=random)
    with torch.inference_mode():
        logits = model(images, vectors, torch.arange(6))
        moved = model(images[order], vectors, order.argsort())
    torch.testing.assert_close(moved, logits, **CLOSE)

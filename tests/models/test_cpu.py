"""Linear layers with oneDNN equal torch's."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from clipseg_pl.models import cpu as module
from clipseg_pl.models.cpu import _laid_out, apply, linear

needs_onednn = pytest.mark.skipif(not module._ONEDNN, reason="this torch has no oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """Record the calls of oneDNN's linear layer."""
    recorded, original = [], module._OPS._linear_pointwise

    class Ops:
        _reorder_linear_weight = module._OPS._reorder_linear_weight
        _is_mkldnn_bf16_supported = module._OPS._is_mkldnn_bf16_supported

        @staticmethod
        def _linear_pointwise(*args):
            recorded.append(args)
            return original(*args)

    monkeypatch.setattr(module, "_OPS", Ops)
    return recorded


@needs_onednn
def test_onednn_is_used_without_gradients(calls):
    tokens, weight = torch.randn(5, 7), torch.randn(11, 7)
    linear(tokens, weight)
    assert not calls
    with torch.no_grad():
        linear(tokens, weight)
        linear(tokens, nn.Parameter(weight))
        assert len(calls) == 2
        with torch.autocast("cpu", torch.float16):
            linear(tokens, weight)
        with torch.autocast("cpu", torch.bfloat16):
            linear(tokens, nn.Parameter(weight))
        linear(tokens.double(), weight.double())
        with torch.backends.mkldnn.flags(enabled=False):
            linear(tokens, weight)
    assert len(calls) == 2


@torch.no_grad()
@pytest.mark.parametrize(
    ("tokens", "weight"),
    [
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float32),
    ],
)
def test_different_dtypes_raise_an_error_like_in_torch(tokens, weight):
    with pytest.raises(RuntimeError, match="dtype"):
        linear(torch.randn(5, 7).to(tokens), torch.randn(11, 7).to(weight))


@torch.no_grad()
def test_hooks_and_subclasses_of_linear_are_called():
    layer, tokens, seen = nn.Linear(7, 11), torch.randn(5, 7), []
    handle = layer.register_forward_hook(lambda *_: seen.append(True))
    apply(layer, tokens)
    handle.remove()
    apply(layer, tokens)
    assert seen == [True]

    class Adapted(nn.Linear):
        def forward(self, tokens):
            return super().forward(tokens) + 1

    adapted = Adapted(7, 11)
    assert torch.equal(apply(adapted, tokens), adapted(tokens))


class Applied(nn.Module):
    """Module that runs a layer with `apply`."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, tokens):
        return apply(self.layer, tokens)


@torch.no_grad()
def test_apply_supports_flop_counting_and_export():
    layer, tokens = nn.Linear(7, 11), torch.randn(5, 7)
    with FlopCounterMode(display=False) as counter:
        apply(layer, tokens)
    assert counter.get_total_flops() == 2 * 5 * 7 * 11
    exported = torch.export.export(Applied(layer), (tokens,)).module()
    torch.testing.assert_close(exported(tokens), layer(tokens))


@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (0, 5, 7), (2, 0, 7)])
@pytest.mark.parametrize("biased", [True, False])
def test_linear_equals_torch_up_to_rounding(shape, biased):
    tokens, weight = torch.randn(shape), torch.randn(11, 7)
    bias = torch.randn(11) if biased else None
    with torch.no_grad():
        torch.testing.assert_close(linear(tokens, weight, bias), F.linear(tokens, weight, bias))


def test_linear_supports_transposed_tokens():
    tokens, weight = torch.randn(3, 7, 5).transpose(1, 2), torch.randn(11, 7)
    with torch.inference_mode():
        torch.testing.assert_close(linear(tokens, weight), F.linear(tokens, weight))


def test_gradients_equal_torch():
    tokens, weight = torch.randn(2, 5, 7), torch.randn(11, 7, requires_grad=True)
    linear(tokens, weight).square().sum().backward()
    expected = weight.grad.clone()
    weight.grad = None
    F.linear(tokens, weight).square().sum().backward()
    assert torch.equal(weight.grad, expected)


def test_linear_follows_autocast():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(2, 7), torch.randn(11, 7)).dtype == torch.bfloat16


def test_frozen_weights_under_autocast_equal_torch():
    tokens, weight, bias = torch.randn(2, 5, 64), torch.randn(96, 64), torch.randn(96)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = F.linear(tokens, weight, bias).float()
        for _ in range(2):  # without and with a cached weight
            actual = linear(tokens, weight, bias)
            assert actual.dtype == torch.bfloat16
            # at most one bit of bfloat16
            assert ((actual.float() - expected).abs() <= 2**-7 * expected.abs() + 1e-3).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight.mul_(2),
        lambda layer: layer.load_state_dict(nn.Linear(7, 11, bias=False).state_dict()),
        lambda layer: setattr(layer.weight, "data", torch.randn(11, 7)),
        lambda layer: layer.bfloat16().float(),
        lambda layer: setattr(layer.weight, "data", layer.weight.data.t().reshape(7, 11).t()),
        lambda layer: setattr(layer.weight, "data", layer.weight.data[1:4]),
    ],
    ids=["in place", "loaded", "data", "rounded", "other strides", "part"],
)
@torch.no_grad()
def test_changed_frozen_weight_is_detected(change):
    layer = nn.Linear(7, 11, bias=False).requires_grad_(False)
    tokens = torch.randn(5, 7)
    linear(tokens, layer.weight)
    change(layer)
    torch.testing.assert_close(linear(tokens, layer.weight), layer(tokens))


@torch.no_grad()
def test_copied_layer_has_its_own_cached_weight():
    layer, tokens = nn.Linear(7, 11).requires_grad_(False), torch.randn(5, 7)
    apply(layer, tokens)
    other = copy.deepcopy(layer)
    other.weight.mul_(2)
    for each in (layer, other):
        torch.testing.assert_close(apply(each, tokens), each(tokens))


@torch.inference_mode()
def test_changed_inference_mode_weight_is_detected():
    weight, tokens = torch.randn(11, 7), torch.randn(5, 7)
    linear(tokens, weight)
    weight.mul_(2)
    torch.testing.assert_close(linear(tokens, weight), F.linear(tokens, weight))


@torch.no_grad()
def test_frozen_weight_works_in_two_precisions():
    tokens, weight = torch.randn(5, 7), torch.randn(11, 7)
    exact = linear(tokens, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(tokens, weight).dtype == torch.bfloat16
    assert torch.equal(linear(tokens, weight), exact)


@needs_onednn
def test_cached_weight_is_freed_with_its_weight():
    before = len(_laid_out)
    weight = torch.randn(11, 7)
    with torch.no_grad():
        linear(torch.randn(5, 7), weight)
    assert len(_laid_out) == before + 1
    del weight
    assert len(_laid_out) == before

"""Batch-first attention, compared with the layers of torch and open_clip."""

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from clipseg_pl.models import cpu
from clipseg_pl.models.attention import EncoderLayer, run_block, self_attention
from clipseg_pl.models.cpu import Dropout


def own_layer(dropout=0.1):
    return EncoderLayer(16, 4, 24, dropout)


def torchs_layer(dropout=0.1):
    return nn.TransformerEncoderLayer(16, 4, 24, dropout, batch_first=True)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_block_equals_open_clip(causal, frozen):
    block = ResidualAttentionBlock(16, 4, ls_init_value=0.3).requires_grad_(not frozen)
    tokens = torch.randn(3, 7, 16)
    mask = torch.full((7, 7), float("-inf")).triu(1) if causal else None
    with torch.set_grad_enabled(not frozen):
        actual, expected = run_block(block, tokens, causal), block(tokens, attn_mask=mask)
    torch.testing.assert_close(actual, expected)


def test_block_computes_the_first_tokens_only():
    block, tokens = ResidualAttentionBlock(16, 4), torch.randn(3, 7, 16)
    whole = run_block(block, tokens)
    torch.testing.assert_close(run_block(block, tokens, queries=2), whole[:, :2])


def test_encoder_layer_equals_torch():
    own, torchs = own_layer().eval(), torchs_layer().eval()
    own.load_state_dict(torchs.state_dict(), strict=True)
    tokens = torch.randn(3, 7, 16)
    torch.testing.assert_close(own(tokens), torchs(tokens))


def test_gradients_equal_torch():
    own, torchs = own_layer(dropout=0.0), torchs_layer(dropout=0.0)
    own.load_state_dict(torchs.state_dict())
    tokens = torch.randn(3, 7, 16)
    for layer in (own, torchs):
        layer(tokens).square().sum().backward()
    for ours, theirs in zip(own.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_every_dropout_layer_is_active_in_training_only():
    """Checks the four layers separately: in the attention, the MLP and both residuals."""
    tokens = torch.randn(3, 7, 16)
    for name in ("attention_dropout", "dropout", "dropout1", "dropout2"):
        layer = own_layer(dropout=0.0)
        assert torch.equal(layer(tokens), layer(tokens))
        getattr(layer, name).p = 0.5
        assert not torch.equal(layer(tokens), layer(tokens)), name
        layer.eval()
        assert torch.equal(layer(tokens), layer(tokens)), name


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_has_the_right_rate_and_keeps_the_mean(probability):
    tokens = torch.ones(37, 41, 201, requires_grad=True)  # not a multiple of four
    torch.manual_seed(0)
    dropped = Dropout(probability)(tokens)
    lost = dropped == 0
    deviation = (probability * (1 - probability) / lost.numel()) ** 0.5
    assert abs(lost.float().mean() - probability) < 5 * deviation
    torch.testing.assert_close(
        dropped[~lost], torch.full_like(dropped[~lost], 1 / (1 - probability)), rtol=2e-5, atol=0
    )
    (gradient,) = torch.autograd.grad(dropped.sum(), tokens)
    assert torch.equal(gradient, dropped)
    flat = lost.flatten().float() - probability  # neighbours share a random number
    for distance in (1, 2, 3, 4):
        together = (flat[:-distance] * flat[distance:]).mean() / deviation**2 / lost.numel()
        assert abs(together) < 5 / lost.numel() ** 0.5
    torch.manual_seed(0)
    assert torch.equal(dropped, Dropout(probability)(tokens))


def test_dropout_with_probability_0_and_1():
    tokens = torch.randn(5, 3)
    assert torch.equal(Dropout(0.0)(tokens), tokens)
    assert torch.equal(Dropout(1.0)(tokens), torch.zeros(5, 3))


@pytest.mark.parametrize(("probability", "value"), [(1e-6, 1), (1 - 1e-6, 0)])
def test_dropout_falls_back_to_torch_if_its_probability_rounds_to_0_or_1(probability, value):
    torch.manual_seed(0)
    dropped = Dropout(probability)(torch.ones(100))
    torch.testing.assert_close(dropped, torch.full((100,), float(value)))
    tokens = torch.randn(2, 3, 16)
    assert own_layer(probability)(tokens).isfinite().all()


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_equals_torchs_in_training_and_inference(dtype, amx, monkeypatch):
    monkeypatch.setattr(cpu, "_AMX", amx)
    attention, tokens = (
        nn.MultiheadAttention(16, 4, batch_first=True).to(dtype),
        torch.randn(3, 7, 16),
    )
    inactive = Dropout(0.5).eval()
    with torch.no_grad():
        inference = self_attention(attention, tokens.to(dtype), False, inactive).float()
    training = self_attention(attention, tokens.to(dtype), False, inactive).float()
    expected = attention.float().eval()(tokens, tokens, tokens, need_weights=False)[0]
    for computed in (training, inference):
        torch.testing.assert_close(
            computed, expected, rtol=0.05, atol=0.02 if dtype != torch.float32 else 1e-6
        )


def test_attention_dropout_keeps_the_mean():
    """Dropout is applied after the softmax, as in torch's attention."""
    attention, tokens = nn.MultiheadAttention(16, 4, batch_first=True), torch.randn(1, 9, 16)
    tokens = tokens.expand(4000, -1, -1)
    with torch.no_grad():
        dropped = self_attention(attention, tokens, False, Dropout(0.3)).mean(0)
        kept = self_attention(attention, tokens[:1], False)[0]
    torch.testing.assert_close(dropped, kept, rtol=0, atol=0.02)


def test_empty_batch_gives_an_empty_result():
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    assert self_attention(attention, torch.zeros(0, 7, 16), causal=False).shape == (0, 7, 16)


def test_autocast_changes_the_result_by_rounding_only():
    layer, tokens = own_layer().eval(), torch.randn(3, 7, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(tokens)
    torch.testing.assert_close(half.float(), layer(tokens), rtol=0.05, atol=0.05)

"""Batch-first attention against the layers whose weights it runs on."""

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from clipseg_pl.models.attention import EncoderLayer, run_block, self_attention

TORCHS = nn.TransformerEncoderLayer
SIZES = {"d_model": 16, "nhead": 4, "dim_feedforward": 24, "batch_first": True}


@pytest.mark.parametrize("causal", [False, True])
def test_block_equals_open_clips_own(causal):
    block = ResidualAttentionBlock(16, 4, ls_init_value=0.3)
    tokens = torch.randn(3, 7, 16)
    mask = torch.full((7, 7), float("-inf")).triu(1) if causal else None
    torch.testing.assert_close(run_block(block, tokens, causal), block(tokens, attn_mask=mask))


def test_encoder_layer_equals_torchs_own():
    own, torchs = EncoderLayer(**SIZES).eval(), TORCHS(**SIZES).eval()
    own.load_state_dict(torchs.state_dict(), strict=True)
    tokens = torch.randn(3, 7, 16)
    torch.testing.assert_close(own(tokens), torchs(tokens))


def test_gradients_equal_torchs_own():
    own, torchs = (layer(**SIZES, dropout=0.0) for layer in (EncoderLayer, TORCHS))
    own.load_state_dict(torchs.state_dict())
    tokens = torch.randn(3, 7, 16)
    for layer in (own, torchs):
        layer(tokens).square().sum().backward()
    for ours, theirs in zip(own.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_every_dropout_acts_in_training_only():
    """Each of the four by itself: in the attention, the MLP and both residuals."""
    tokens = torch.randn(3, 7, 16)
    for name in ("self_attn", "dropout", "dropout1", "dropout2"):
        layer = EncoderLayer(**SIZES, dropout=0.0)
        assert torch.equal(layer(tokens), layer(tokens))
        if name == "self_attn":
            layer.self_attn.dropout = 0.5
        else:
            getattr(layer, name).p = 0.5
        assert not torch.equal(layer(tokens), layer(tokens)), name
        layer.eval()
        assert torch.equal(layer(tokens), layer(tokens)), name


def test_nothing_gives_nothing():
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    assert self_attention(attention, torch.zeros(0, 7, 16), causal=False).shape == (0, 7, 16)


def test_autocast_gives_nearly_the_same():
    layer, tokens = EncoderLayer(**SIZES).eval(), torch.randn(3, 7, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(tokens)
    torch.testing.assert_close(half.float(), layer(tokens), rtol=0.05, atol=0.05)

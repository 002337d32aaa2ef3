"""Self-attention on the weights of torch's and open_clip's layers.

`nn.MultiheadAttention` transposes its input first; under bf16 autocast on a CPU the projection of
that transposed input copies the weights once a token, and a ViT-B/16 at 352 px runs five times
slower than in fp32 instead of several times faster. Here tokens stay batch-first.
"""

from collections.abc import Callable

import numpy as np
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F

from clipseg_pl.models.linear import apply, linear

Attend = Callable[[nn.MultiheadAttention, Tensor], Tensor]
"""Attends within sequences (B, N, width), on the weights of a layer."""


def project_heads(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """Queries, keys and values of each head: (B, N, width) to (3, B, heads, N, width / heads)."""
    projected = linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    batch, length, _ = tokens.shape
    # B N 3W -> B N 3 heads W'; the last size is named, for batches of none
    heads = projected.view(batch, length, 3, attention.num_heads, attention.head_dim)
    return heads.permute(2, 0, 3, 1, 4)


def self_attention(
    attention: nn.MultiheadAttention,
    tokens: Tensor,
    causal: bool,
    dropout: nn.Dropout | None = None,
    queries: int | None = None,
) -> Tensor:
    """Attend within each sequence.

    Args:
        attention: whose weights to use.
        tokens: (B, N, width).
        causal: let tokens attend to themselves and earlier ones only.
        dropout: of the attention's weights; none at all by default.
        queries: how many of the tokens, from the first, get an answer; all by default.

    Returns:
        (B, queries, width).
    """
    query, key, value = project_heads(attention, tokens)
    query = query[:, :, :queries]
    loses = dropout is not None and dropout.training and dropout.p > 0
    if tokens.is_cpu and not causal and (loses or query.dtype == torch.bfloat16):
        # a CPU's fused kernel is slower than its parts in bf16, and knows no dropout
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1)
        attended = (weights if dropout is None else dropout(weights)) @ value
    else:
        lost = dropout.p if dropout is not None and loses else 0.0
        attended = F.scaled_dot_product_attention(
            query, key, value, dropout_p=lost, is_causal=causal
        )
    return apply(attention.out_proj, attended.transpose(1, 2).flatten(2))


def run_block(
    block: ResidualAttentionBlock,
    tokens: Tensor,
    causal: bool = False,
    queries: int | None = None,
    attend: Attend | None = None,
) -> Tensor:
    """Run one pre-norm block of open_clip.

    Args:
        block: whose weights to use.
        tokens: (B, N, width).
        causal: let tokens attend to themselves and earlier ones only.
        queries: how many of the tokens, from the first, get an answer; all by default.
        attend: attention to use in place of `self_attention`.

    Returns:
        (B, queries, width).
    """
    normed = block.ln_1(tokens)
    if attend is None:
        attended = self_attention(block.attn, normed, causal, queries=queries)
    else:
        attended = attend(block.attn, normed)
    tokens = tokens[:, :queries] + block.ls_1(attended)
    hidden = block.ln_2(tokens)
    for part in block.mlp:
        hidden = apply(part, hidden)
    advanced: Tensor = tokens + block.ls_2(hidden)
    return advanced


class Dropout(nn.Dropout):
    """Dropout that draws four elements' fates from one random number on a CPU.

    Torch draws one number an element there, one after the other, which took 40 % of a decoder's
    training step. The probability is rounded to 16 bits: 0.1 becomes 0.100006.
    """

    def draw(self, tokens: Tensor) -> tuple[Tensor, float] | None:
        """Draw what is kept of a tensor: int16 of its shape, 1 or 0, and the factor due to it.

        None where torch's own dropout does it: outside training, off the CPU, and where 16 bits
        round the probability to 0 or 1.
        """
        lost = round(self.p * 2**16)
        if not self.training or lost in (0, 2**16) or tokens.device.type != "cpu":
            return None
        bits = np.random.SFC64(int(torch.randint(2**62, ())))  # three times as fast as torch's
        numbers = torch.from_numpy(bits.random_raw((tokens.numel() + 3) // 4).view(np.int16))
        least = lost - 2**15  # of those kept: int16 starts at -2^15
        # a comparison's booleans would cost more than the random numbers
        kept = numbers[: tokens.numel()].view(tokens.shape).clamp_(least - 1, least)
        return kept.sub_(least - 1), 2**16 / (2**16 - lost)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map a tensor of any shape to the same."""
        drawn = self.draw(tokens)
        return super().forward(tokens) if drawn is None else tokens * drawn[0] * drawn[1]


class EncoderLayer(nn.TransformerEncoderLayer):
    """Torch's post-norm encoder layer, batch-first throughout; the same weights and numbers."""

    dropout: Dropout

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        """Build torch's layer with our dropout between its parts."""
        super().__init__(width, heads, feedforward, dropout, batch_first=True)
        self.dropout, self.dropout1, self.dropout2 = (Dropout(dropout) for _ in range(3))
        self.attention_dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]  # no masks
        """Map (B, N, width) to the same."""
        attended = self_attention(self.self_attn, tokens, False, self.attention_dropout)
        tokens = self.norm1(tokens + self.dropout1(attended))
        hidden = F.relu(apply(self.linear1, tokens), inplace=True)
        drawn = self.dropout.draw(hidden)
        if drawn is None:
            advanced = apply(self.linear2, self.dropout(hidden))
        else:  # the factor costs less on the weights
            kept, factor = drawn
            advanced = F.linear(hidden * kept, self.linear2.weight * factor, self.linear2.bias)
        output: Tensor = self.norm2(tokens + self.dropout2(advanced))
        return output

"""Batch-first self-attention that uses the weights of torch's and CLIP's layers.

`nn.MultiheadAttention` transposes its input. Under bfloat16 autocast on a CPU, projecting the
transposed input copies the weights once per token. A ViT-B/16 at 352 px then runs five times
slower than in float32 instead of several times faster. The functions of this module avoid the
transpose.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from clipseg_pl.models import cpu
from clipseg_pl.weights.clip_layers import Block

Attend = Callable[[nn.MultiheadAttention, Tensor], Tensor]
"""Self-attention over tokens (B, N, width) with the weights of a given layer."""


def project_heads(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """Project tokens to the queries, keys and values of each head.

    Args:
        attention: layer that provides the weights.
        tokens: (B, N, width).

    Returns:
        (3, B, heads, N, width / heads).
    """
    projected = cpu.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    batch, length, _ = tokens.shape
    # B N 3W -> B N 3 heads W'; -1 cannot be inferred for an empty batch
    heads = projected.view(batch, length, 3, attention.num_heads, attention.head_dim)
    return heads.permute(2, 0, 3, 1, 4)


def self_attention(
    attention: nn.MultiheadAttention,
    tokens: Tensor,
    causal: bool,
    dropout: nn.Dropout | None = None,
    queries: int | None = None,
) -> Tensor:
    """Apply multi-head self-attention to each sequence.

    Args:
        attention: layer that provides the weights.
        tokens: (B, N, width).
        causal: restrict each token to itself and earlier tokens.
        dropout: dropout on the attention weights; none by default.
        queries: number of leading tokens to compute the output for; all tokens by default.

    Returns:
        (B, queries, width).
    """
    query, key, value = project_heads(attention, tokens)
    attended = cpu.attend(query[:, :, :queries], key, value, causal, dropout)
    return cpu.apply(attention.out_proj, attended.transpose(1, 2).flatten(2))


def run_block(
    block: Block,
    tokens: Tensor,
    causal: bool = False,
    queries: int | None = None,
    attend: Attend | None = None,
) -> Tensor:
    """Run one pre-norm transformer block of CLIP.

    Args:
        block: block that provides the weights.
        tokens: (B, N, width).
        causal: restrict each token to itself and earlier tokens.
        queries: number of leading tokens to compute the output for; all tokens by default.
        attend: attention function to use instead of `self_attention`.

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
        hidden = cpu.apply(part, hidden)
    advanced: Tensor = tokens + block.ls_2(hidden)
    return advanced


class EncoderLayer(nn.TransformerEncoderLayer):
    """Torch's post-norm encoder layer with batch-first attention.

    State dict and results are the same as those of `nn.TransformerEncoderLayer`.
    """

    dropout: cpu.Dropout

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        """Build torch's layer and replace its dropout layers with `cpu.Dropout`."""
        super().__init__(width, heads, feedforward, dropout, batch_first=True)
        self.dropout, self.dropout1, self.dropout2 = (cpu.Dropout(dropout) for _ in range(3))
        self.attention_dropout = cpu.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]  # no masks
        """Map tokens (B, N, width) to tokens of the same shape."""
        attended = self_attention(self.self_attn, tokens, False, self.attention_dropout)
        tokens = self.norm1(tokens + self.dropout1(attended))
        hidden = F.relu(cpu.apply(self.linear1, tokens), inplace=True)
        advanced = cpu.apply_dropped(self.linear2, hidden, self.dropout)
        output: Tensor = self.norm2(tokens + self.dropout2(advanced))
        return output

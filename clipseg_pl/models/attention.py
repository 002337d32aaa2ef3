"""Self-attention on the weights of torch's and open_clip's layers.

`nn.MultiheadAttention` transposes its input first; under bf16 autocast on a CPU the projection of
that transposed input copies the weights once a token, and a ViT-B/16 at 352 px runs five times
slower than in fp32 instead of several times faster. Here tokens stay batch-first.
"""

from collections.abc import Callable

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F

from clipseg_pl.models import cpu

Attend = Callable[[nn.MultiheadAttention, Tensor], Tensor]
"""Attends within sequences (B, N, width), on the weights of a layer."""


def project_heads(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """Queries, keys and values of each head: (B, N, width) to (3, B, heads, N, width / heads)."""
    projected = cpu.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
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
    attended = cpu.attend(query[:, :, :queries], key, value, causal, dropout)
    return cpu.apply(attention.out_proj, attended.transpose(1, 2).flatten(2))


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
        hidden = cpu.apply(part, hidden)
    advanced: Tensor = tokens + block.ls_2(hidden)
    return advanced


class EncoderLayer(nn.TransformerEncoderLayer):
    """Torch's post-norm encoder layer, batch-first throughout; the same weights and numbers."""

    dropout: cpu.Dropout

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        """Build torch's layer with our dropout between its parts."""
        super().__init__(width, heads, feedforward, dropout, batch_first=True)
        self.dropout, self.dropout1, self.dropout2 = (cpu.Dropout(dropout) for _ in range(3))
        self.attention_dropout = cpu.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]  # no masks
        """Map (B, N, width) to the same."""
        attended = self_attention(self.self_attn, tokens, False, self.attention_dropout)
        tokens = self.norm1(tokens + self.dropout1(attended))
        hidden = F.relu(cpu.apply(self.linear1, tokens), inplace=True)
        advanced = cpu.apply_dropped(self.linear2, hidden, self.dropout)
        output: Tensor = self.norm2(tokens + self.dropout2(advanced))
        return output

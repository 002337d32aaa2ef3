"""Self-attention on the weights of torch's and open_clip's layers.

`nn.MultiheadAttention` transposes its input first; under bf16 autocast on a CPU the projection of
that transposed input copies the weights once a token, and a ViT-B/16 at 352 px runs five times
slower than in fp32 instead of several times faster. Here tokens stay batch-first.
"""

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F


def self_attention(attention: nn.MultiheadAttention, tokens: Tensor, causal: bool) -> Tensor:
    """Attend within each sequence.

    Args:
        attention: whose weights and dropout to use.
        tokens: (B, N, width).
        causal: let tokens attend to themselves and earlier ones only.

    Returns:
        (B, N, width).
    """
    projected = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    batch, length, _ = tokens.shape
    # B N 3W -> B N 3 heads W'; the last size is named, for batches of none
    heads = projected.view(batch, length, 3, attention.num_heads, attention.head_dim)
    query, key, value = heads.permute(2, 0, 3, 1, 4)  # 3 B heads N W'
    dropout = attention.dropout if attention.training else 0.0
    attended = F.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=causal
    )
    joined: Tensor = attention.out_proj(attended.transpose(1, 2).flatten(2))
    return joined


def run_block(block: ResidualAttentionBlock, tokens: Tensor, causal: bool = False) -> Tensor:
    """Run one pre-norm block of open_clip: (B, N, width) to the same."""
    tokens = tokens + block.ls_1(self_attention(block.attn, block.ln_1(tokens), causal))
    advanced: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return advanced


class EncoderLayer(nn.TransformerEncoderLayer):
    """Torch's post-norm encoder layer, batch-first throughout; the same weights and numbers."""

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]  # no masks
        """Map (B, N, width) to the same."""
        tokens = self.norm1(tokens + self.dropout1(self_attention(self.self_attn, tokens, False)))
        hidden = self.dropout(F.relu(self.linear1(tokens)))
        advanced: Tensor = self.norm2(tokens + self.dropout2(self.linear2(hidden)))
        return advanced

"""Attention of query heads that share keys and values (GQA, arXiv 2305.13245), without a copy of these for each head.

Where there is a mask, for texts of several lengths or behind what is cached, transformers copies keys and values for
every query head. But heads that share them are as well further queries of one head, under a copy of the mask.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

OTHERWISE = ("softcap", "position_bias", "output_attentions")  # asked for by few models, and left to transformers


def share_keys() -> None:
    """Let all models of this process whose attention is PyTorch's compute so."""
    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """As transformers' attention by PyTorch.

    Args:
        query: [rows, heads, length, size].
        key, value: [rows, heads that are shared, known, size].
        attention_mask: [rows, 1, length, known], true or 0 where a query sees; None: what comes before it.

    Returns:
        [rows, length, heads, size], and no weights.
    """
    rows, heads, length, size = query.shape
    shared = key.shape[1]
    usual = attention_mask is not None and attention_mask.dim() == 4 and attention_mask.shape[1:3] == (1, length)
    # of many queries, copies of the mask would be larger than those of keys and values
    folds = usual and heads != shared and length <= shared * size and len(key) == rows
    if not folds or any(more.get(name) not in (None, False) for name in OTHERWISE):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    assert attention_mask is not None
    group, mask = heads // shared, attention_mask
    if length > 1:
        mask = mask.expand(-1, group, -1, -1).reshape(len(mask), 1, group * length, -1)
    found = scaled_dot_product_attention(
        query.reshape(rows, shared, group * length, size),
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        scale=scaling,
    )
    return found.reshape(rows, heads, length, -1).transpose(1, 2).contiguous(), None

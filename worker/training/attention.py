"""Causal attention within each document of a packed row, registered with transformers by name.

A name that transformers does not know gets no mask from it: the document's bounds, the sliding window, the soft cap and
the scaling are honoured here. On the CPU, below about a thousand tokens, plain products with the heads that share a
key-value head folded into rows beat `scaled_dot_product_attention`, whose backward is slow there.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import AttentionInterface

NAME = "tunewright"
FOLDED_MAX_TOKENS = 1024


def document_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    document_lengths: list[int],
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query [1, heads, tokens, dim], key and value [1, key-value heads, tokens, dim] → [1, tokens, heads, dim]."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = zip(*(torch.split(tensor, document_lengths, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = [_attend(q, k, v, scale, sliding_window, softcap) for q, k, v in parts]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    tokens = q.shape[2]
    if softcap is not None or (q.device.type == "cpu" and tokens <= FOLDED_MAX_TOKENS):
        return _folded(q, k, v, scale, window, softcap)
    mask = None
    if window is not None and tokens > window:
        mask = ~_hidden(tokens, window, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True)


def _folded(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    _, heads, tokens, dim = q.shape
    kv_heads = k.shape[1]
    rows = (q * scale).reshape(kv_heads, heads // kv_heads * tokens, dim)
    scores = torch.bmm(rows, k[0].transpose(1, 2)).view(heads, tokens, tokens)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(_hidden(tokens, window, q.device), float("-inf"))
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype)
    return torch.bmm(weights.view(kv_heads, -1, tokens), v[0]).view(1, heads, tokens, -1)


def _hidden(tokens: int, window: int | None, device: torch.device) -> Tensor:
    """[tokens, tokens], false where the row's token sees the column's: itself and up to `window` - 1 before it."""
    size = 1 << (tokens - 1).bit_length()
    return _square(size, window, device)[:tokens, :tokens]


@lru_cache(maxsize=8)
def _square(size: int, window: int | None, device: torch.device) -> Tensor:
    """The mask of any document is the corner of a longer one's, so that a few masks serve all lengths."""
    distance = torch.arange(size, device=device)[:, None] - torch.arange(size, device=device)
    hidden = distance < 0
    return hidden if window is None else hidden | (distance >= window)


AttentionInterface.register(NAME, document_attention)

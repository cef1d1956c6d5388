"""Computes causal attention within each document of a packed row.

transformers passes no mask to an attention with a name that it does not know: the document's bounds, the sliding
window, the soft cap and the scaling are applied here. On the CPU, documents of up to about a thousand tokens are
multiplied in full, with the heads that share a key-value head folded into rows and the backward by hand: for them, the
backward of `scaled_dot_product_attention` is slow. Longer ones use it. On CUDA all documents go through one call of
FlashAttention (`flash`), where the GPU and the heads allow it.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import AttentionInterface

from worker.training.ops.flash import attend_flash
from worker.training.ops.recompute import Maker, keep, kept_by, recompute

NAME = "tunewright"
FOLDED_MAX_TOKENS = 1024
PIECE_TOKENS = 128
ROUND_TOKENS = 32
"""Divides the number of tokens of a piece, except at the end."""
SMALL_CHIPS: Final = ((8, 6), (8, 9), (12, 0), (12, 1))
"""Lists the compute capabilities of GPUs with less shared memory."""


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
    """Compute attention with transformers' signature: query [1, heads, tokens, dim], key and value [1, key-value heads,
    tokens, dim] → [1, tokens, heads, dim]."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kv_heads, tokens = key.shape[1:3]
    grouped = query.view(kv_heads, -1, tokens, query.shape[-1]).transpose(1, 2)
    output = attend(grouped, key[0], value[0], document_lengths, scale, sliding_window, softcap)
    return output.view(1, tokens, query.shape[1], -1), None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    makers: tuple[Maker | None, Maker | None] = (None, None),
) -> Tensor:
    """Compute attention: query [key-value heads, tokens, groups, dim], key and value [key-value heads, tokens, dim] →
    [tokens, key-value heads · groups, dim]. On the CPU path, a query or key that can be recomputed is not kept:
    `makers` return [key-value heads, tokens, groups, dim], and the key as one group."""
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotation under autocast returns fp32
    if softcap is None and query.device.type == "cpu" and max(lengths) <= FOLDED_MAX_TOKENS:
        with torch.autocast("cpu", enabled=False):
            output: Tensor = _Folded.apply(query, key, value, lengths, scale, window, makers)  # type: ignore[no-untyped-call]
        return output
    if _is_varlen(query, softcap):
        return attend_flash(query, key, value, lengths, scale, window)
    parts = zip(*(torch.split(tensor, lengths, dim=1) for tensor in (query, key, value)), strict=True)
    return torch.cat([_attend_one(q, k, v, scale, window, softcap) for q, k, v in parts])


def _is_varlen(query: Tensor, softcap: float | None) -> bool:
    return query.device.type == "cuda" and takes_flash(query.dtype, query.shape[-1], softcap)


def takes_flash(dtype: torch.dtype, dim: int, softcap: float | None) -> bool:
    """Say whether torch's FlashAttention 2 supports these heads on this GPU: Ampere or newer, 16 bits, heads of at most
    256 and a multiple of 8, no soft cap. For heads of 193 to 224, its backward needs the shared memory of the larger
    chips."""
    capability = torch.cuda.get_device_capability()
    if softcap is not None or capability < (8, 0) or dtype not in (torch.bfloat16, torch.float16):
        return False
    return dim <= 256 and dim % 8 == 0 and not (192 < dim <= 224 and capability in SMALL_CHIPS)


def _attend_one(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    """Compute one document with torch's functions → [tokens, heads, dim]."""
    kv_heads, tokens, groups, dim = q.shape
    heads = q.transpose(1, 2).reshape(1, kv_heads * groups, tokens, dim)
    if softcap is None:
        banded = window is not None and tokens > window
        mask = ~_hidden(tokens, window, q.device) if banded else None  # [tokens, tokens]: only where it is needed
        output = F.scaled_dot_product_attention(
            heads, k[None], v[None], attn_mask=mask, is_causal=not banded, scale=scale, enable_gqa=True
        )
    else:
        keys, values = (tensor.repeat_interleave(groups, dim=0)[None] for tensor in (k, v))
        scores = softcap * torch.tanh(heads @ keys.transpose(2, 3) * (scale / softcap))
        scores = scores.masked_fill(_hidden(tokens, window, q.device), float("-inf"))
        output = torch.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype) @ values
    return output[0].transpose(0, 1)


class _Folded(torch.autograd.Function):
    """Computes the documents piece by piece. Each piece's weights are kept for backward, [key-value heads, queries ·
    groups, keys]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: list[int],
        scale: float,
        window: int | None,
        makers: tuple[Maker | None, Maker | None],
    ) -> Tensor:
        kv_heads, tokens, groups, dim = query.shape
        output = query.new_empty(tokens, kv_heads, groups, dim)
        kept = []
        for first, start, end, wide in _pieces(lengths, tokens):
            q, k, v = _fold(query, start, wide), key[:, first:wide], value[:, first:wide]
            mask = _bias(start - first, wide - first, groups, window, query.dtype, query.device)
            weights = torch.softmax(_masked_product(mask, q, k.transpose(1, 2), scale), dim=-1)
            weights[:, (end - start) * groups :] = 0
            mixed = _product(weights, v).view(kv_heads, wide - start, groups, dim)
            output[start:end].transpose(0, 1).copy_(mixed[:, : end - start])
            kept.append(weights)
        ctx.lengths, ctx.scale = lengths, scale
        query_kept, key_kept = (None if maker else it for it, maker in zip((query, key), makers, strict=True))
        keep(ctx, [query_kept, key_kept, value, *kept], *makers)
        return output.view(tokens, kv_heads * groups, dim)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (query, key, value, *kept), (query_maker, key_maker) = kept_by(ctx)
        query = recompute(query_maker).to(value.dtype) if query_maker else query
        key = recompute(key_maker)[:, :, 0].to(value.dtype) if key_maker else key
        kv_heads, tokens, groups, dim = query.shape
        grads = grad.reshape(tokens, kv_heads, groups, dim).transpose(0, 1)
        grad_query = query.new_empty(query.shape)
        grad_key, grad_value = torch.zeros_like(key), torch.zeros_like(value)
        for (first, start, end, wide), weights in zip(_pieces(ctx.lengths, tokens), kept, strict=True):
            q, g = _fold(query, start, wide), _fold(grads, start, wide)
            k, v = key[:, first:wide], value[:, first:wide]
            _add_product(grad_value[:, first:wide], weights.transpose(1, 2), g)
            pull = torch._softmax_backward_data(_product(g, v.transpose(1, 2)), weights, -1, weights.dtype)
            pull.mul_(ctx.scale)
            grad_query[:, start:end] = _product(pull, k).view(kv_heads, wide - start, groups, dim)[:, : end - start]
            _add_product(grad_key[:, first:wide], pull.transpose(1, 2), q)
        return grad_query, grad_key, grad_value, None, None, None, None


def _pieces(lengths: list[int], tokens: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield for each piece its document's first token, the start and end of its queries, and the end of the piece.
    Queries see none of the keys after the piece, which saves nearly half of the products.

    A piece includes tokens of the next document to round up its size, since each size of a product has a separate
    kernel that is cached (half a megabyte). Those keys lie after all queries and are hidden from them; the weights of
    those queries are zero."""
    first = 0
    for length in lengths:
        last = first + length
        for start in range(first, last, PIECE_TOKENS):
            end = min(start + PIECE_TOKENS, last)
            yield first, start, end, min(end + -(end - start) % ROUND_TOKENS, tokens)
        first = last


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply with `mm` where there is only one product, since `bmm` is slower there."""
    return torch.mm(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b)


def _add_product(into: Tensor, a: Tensor, b: Tensor) -> None:
    if len(a) == 1:
        into[0].addmm_(a[0], b[0])
    else:
        into.baddbmm_(a, b)


def _masked_product(mask: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    if len(a) == 1:
        return torch.addmm(mask, a[0], b[0], alpha=scale)[None]
    return torch.baddbmm(mask.expand(len(a), -1, -1), a, b, alpha=scale)


def _fold(tensor: Tensor, start: int, end: int) -> Tensor:
    """Fold groups into rows: [key-value heads, tokens, groups, dim] → those tokens' [key-value heads, tokens · groups,
    dim]."""
    return tensor[:, start:end].reshape(tensor.shape[0], -1, tensor.shape[-1])


def _bias(start: int, end: int, groups: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the mask [(end - start) · groups, end]: 0 where the row's token sees the column's, otherwise -inf."""
    size = 1 << (end - 1).bit_length()
    return _square_bias(size, groups, window, dtype, device)[start * groups : end * groups, :end]


@lru_cache(maxsize=8)
def _square_bias(size: int, groups: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Cache masks by powers of two: a document's mask is the corner of a longer one's, so that a few masks serve all
    lengths."""
    bias = torch.zeros(size, size, dtype=dtype, device=device)
    return bias.masked_fill_(_hidden(size, window, device), float("-inf")).repeat_interleave(groups, dim=0)


def _hidden(tokens: int, window: int | None, device: torch.device) -> Tensor:
    """Return [tokens, tokens], false where a row's token sees a column's: itself and up to `window` - 1 before it."""
    distance = torch.arange(tokens, device=device)[:, None] - torch.arange(tokens, device=device)
    hidden = distance < 0
    return hidden if window is None else hidden | (distance >= window)


AttentionInterface.register(NAME, document_attention)

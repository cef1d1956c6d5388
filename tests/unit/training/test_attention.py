"""Compares attention over packed documents with plain masked softmax, document by document."""

import pytest
import torch
from torch import Tensor, nn

from worker.training.ops import attention

HEADS, KV_HEADS, DIM, SCALE = 4, 2, 16, 0.3
LENGTHS = [11, 1, 20]


def plain(q: Tensor, k: Tensor, v: Tensor, window: int | None, softcap: float | None) -> Tensor:
    """Compute [1, heads, tokens, dim] → [1, tokens, heads, dim], with one mask over all documents."""
    k, v = (tensor.repeat_interleave(HEADS // KV_HEADS, dim=1) for tensor in (k, v))
    scores = q @ k.transpose(2, 3) * SCALE
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    tokens = torch.arange(sum(LENGTHS))
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    distance = tokens[:, None] - tokens
    seen = (owner[:, None] == owner) & (distance >= 0)
    if window is not None:
        seen &= distance < window
    return (scores.masked_fill(~seen, float("-inf")).softmax(dim=-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("folded_max_tokens", [1024, 0], ids=["folded", "sdpa"])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (8, None), (8, 2.0)])
def test_packed_documents_do_not_see_each_other(
    monkeypatch: pytest.MonkeyPatch, folded_max_tokens: int, window: int | None, softcap: float | None
) -> None:
    monkeypatch.setattr(attention, "FOLDED_MAX_TOKENS", folded_max_tokens)
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    q = torch.randn(1, HEADS, tokens, DIM, requires_grad=True)
    k, v = (torch.randn(1, KV_HEADS, tokens, DIM, requires_grad=True) for _ in range(2))
    weights = torch.randn(1, tokens, HEADS, DIM)

    expected = plain(q, k, v, window, softcap)
    expected_grads = torch.autograd.grad((expected * weights).sum(), (q, k, v))
    found, _ = attention.document_attention(
        nn.Identity(), q, k, v, None, document_lengths=LENGTHS, scaling=SCALE, sliding_window=window, softcap=softcap
    )
    found_grads = torch.autograd.grad((found * weights).sum(), (q, k, v))

    torch.testing.assert_close(found, expected)
    for grad, expected_grad in zip(found_grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-5)


def test_torchs_attention_creates_no_unused_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the mask, which would be [tokens, tokens] for each document in each layer."""
    query, key, value = torch.randn(1, 40, 2, 8), torch.randn(1, 40, 8), torch.randn(1, 40, 8)
    monkeypatch.setattr(attention, "FOLDED_MAX_TOKENS", 0)
    expected = attention.attend(query, key, value, [24, 16], 0.3, 1000)
    monkeypatch.setattr(attention, "_hidden", None)
    assert attention.attend(query, key, value, [24, 16], 0.3).equal(expected)

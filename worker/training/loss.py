"""Cross-entropy at labelled positions, streamed over blocks of the vocabulary.

Logits of all words never exist at once: an online softmax (arXiv 1805.02867) walks over blocks of the output layer.
While the layer is frozen, the gradient of the hidden states is accumulated in the same pass; a trained layer takes a
second pass in backward, as in Cut Cross-Entropy (arXiv 2411.09009).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = 4096


@dataclass(frozen=True)
class Head:
    """The output layer: logits = softcap · tanh(scale · (h · weightᵀ + bias) / softcap); products run in `dtype`."""

    weight: Tensor
    bias: Tensor | None
    dtype: torch.dtype
    scale: float = 1.0
    softcap: float | None = None

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self.weight.shape[0], BLOCK):
            yield start, self.weight[start : start + BLOCK].to(self.dtype)

    def logits(self, hidden: Tensor, start: int, block: Tensor) -> tuple[Tensor, Tensor | None]:
        """fp32 logits of one block, [rows, words], and what the soft cap's derivative multiplies them by."""
        logits = (hidden @ block.T).float()
        if self.bias is not None:
            logits += self.bias[start : start + block.shape[0]]
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is None:
            return logits, None
        capped = torch.tanh(logits / self.softcap)
        return capped * self.softcap, 1 - capped * capped


def token_losses(hidden: Tensor, targets: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Loss of each row of `hidden` [rows, dim] against its word in `targets`, fp32, and whether the word with the
    highest logit is the target."""
    losses, hits = _StreamedLoss.apply(hidden, head.weight, head.bias, targets, head)  # type: ignore[no-untyped-call]
    return losses, hits


class _StreamedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: Head
    ) -> tuple[Tensor, Tensor]:
        ctx.head, ctx.head_trains = head, ctx.needs_input_grad[1]
        rows = hidden.to(head.dtype)
        one_pass = ctx.needs_input_grad[0] and not ctx.head_trains
        losses, hits, normalizer, grad = _stream(rows, targets, head, with_grad=one_pass)
        ctx.input_dtype = hidden.dtype
        ctx.save_for_backward(*((grad,) if one_pass else (rows, targets, normalizer)))
        ctx.mark_non_differentiable(hits)
        return losses, hits

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.head_trains:
            (grad,) = ctx.saved_tensors
            return (grad * grad_losses[:, None]).to(ctx.input_dtype), None, None, None, None
        hidden, targets, normalizer = ctx.saved_tensors
        grad_hidden, grad_weight, grad_bias = _second_pass(hidden, targets, normalizer, grad_losses, ctx.head)
        return grad_hidden.to(ctx.input_dtype), grad_weight, grad_bias, None, None


def _stream(
    hidden: Tensor, targets: Tensor, head: Head, *, with_grad: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Losses, hits, log-sum-exp of the logits, and the losses' gradient by `hidden` (fp32)."""
    count = hidden.shape[0]
    highest = torch.full((count,), float("-inf"), device=hidden.device)
    best = torch.zeros_like(targets)
    total, target_logit, target_slope = (torch.zeros_like(highest) for _ in range(3))
    grad = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device) if with_grad else None
    for start, block in head.blocks():
        logits, slope = head.logits(hidden, start, block)
        inside, place = _place(targets, start, block)
        target_logit = torch.where(inside, logits.gather(1, place)[:, 0], target_logit)
        block_max, block_best = logits.max(dim=1)
        best = torch.where(block_max > highest, block_best + start, best)
        raised = torch.maximum(highest, block_max)
        shrink = torch.exp(highest - raised)
        highest = raised
        weights = logits.sub_(highest[:, None]).exp_()
        total = total * shrink + weights.sum(dim=1)
        if grad is not None:
            if slope is not None:
                target_slope = torch.where(inside, slope.gather(1, place)[:, 0], target_slope)
                weights *= slope
            grad.mul_(shrink[:, None]).add_(weights.to(head.dtype) @ block)
    normalizer = highest + torch.log(total)
    if grad is not None:
        pull = head.weight[targets].float()
        grad = grad.div_(total[:, None]).sub_(pull if head.softcap is None else pull * target_slope[:, None])
        grad *= head.scale
    return normalizer - target_logit, best == targets, normalizer, grad


def _second_pass(
    hidden: Tensor, targets: Tensor, normalizer: Tensor, grad_losses: Tensor, head: Head
) -> tuple[Tensor, Tensor, Tensor | None]:
    grad_hidden = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
    grad_weight = torch.empty_like(head.weight)
    grad_bias = None if head.bias is None else torch.empty_like(head.bias)
    for start, block in head.blocks():
        end = start + block.shape[0]
        logits, slope = head.logits(hidden, start, block)
        grad = logits.sub_(normalizer[:, None]).exp_()
        inside, place = _place(targets, start, block)
        grad.scatter_(1, place, grad.gather(1, place) - inside[:, None].float())
        grad *= grad_losses[:, None] * head.scale
        if slope is not None:
            grad *= slope
        if grad_bias is not None:
            grad_bias[start:end] = grad.sum(dim=0)
        low = grad.to(head.dtype)
        grad_hidden += low @ block
        grad_weight[start:end] = low.T @ hidden
    return grad_hidden, grad_weight, grad_bias


def _place(targets: Tensor, start: int, block: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each target is a word of the block, and where, [rows, 1]: without asking the device, which would wait."""
    place = targets - start
    return (place >= 0) & (place < block.shape[0]), place.clamp(0, block.shape[0] - 1)[:, None]

"""Computes cross-entropy at labelled positions, streamed over blocks of the vocabulary.

The logits of all words never exist at once: the sum of exponentials is accumulated over blocks of the output layer.
While the layer is frozen, the gradient of the hidden states is accumulated in the same pass. A trained layer needs a
second pass in backward, as in Cut Cross-Entropy (arXiv 2411.09009).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from worker.training.runtime.alignment import ALIGNED

BLOCK = 4096
ADAPTED_LOGITS = 2**24
"""Limits the logits at once of an output layer with an adapter: 64 MiB in fp32."""
LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class Head:
    """Describes the output layer: logits = softcap · tanh(scale · (h · weightᵀ + bias) / softcap). Products run in
    `dtype`."""

    weight: Tensor
    bias: Tensor | None
    dtype: torch.dtype
    scale: float = 1.0
    softcap: float | None = None
    watches: bool = True
    """Says whether overflowed sums are detected and computed again, for which the host waits for a GPU. If not, their
    losses are not finite."""

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self.weight.shape[0], BLOCK):
            yield start, self.weight[start : start + BLOCK].to(self.dtype)

    @property
    def is_plain(self) -> bool:
        return self.bias is None and self.softcap is None

    def logits(self, hidden: Tensor, start: int, block: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return one block's fp32 logits, [rows, words], and the factor from the soft cap's derivative."""
        bias = None if self.bias is None else self.bias[start : start + block.shape[0]]
        return self.finished((hidden @ block.T).float(), bias)

    def finished(self, logits: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Convert fp32 products to logits, in place. Also returns the soft cap's derivative."""
        if bias is not None:
            logits += bias
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is None:
            return logits, None
        capped = torch.tanh(logits / self.softcap)
        return capped * self.softcap, 1 - capped * capped


def token_losses(hidden: Tensor, targets: Tensor, head: Head, *, with_hits: bool = False) -> tuple[Tensor, Tensor]:
    """Return the fp32 loss of each row of `hidden` [rows, dim] for its word in `targets`. With `with_hits`, also return
    whether the word with the highest logit is the target (otherwise all false: it costs a tenth of the time)."""
    count = len(targets)
    filling = -count % ALIGNED
    rows, words = F.pad(hidden, (0, 0, 0, filling)), F.pad(targets, (0, filling))
    losses, hits = _StreamedLoss.apply(rows, head.weight, head.bias, words, head, with_hits)  # type: ignore[no-untyped-call]
    return losses[:count], hits[:count]


def adapted_losses(
    hidden: Tensor, targets: Tensor, layer: nn.Module, head: Head, *, with_hits: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute the same for an output layer with an adapter, whose gradients need all words' probabilities at once: a
    few rows at a time, computed again in backward."""
    count = max(1, ADAPTED_LOGITS // head.weight.shape[0])
    parts = zip(torch.split(hidden, count), torch.split(targets, count), strict=True)
    found = [
        checkpoint(_plain_losses, rows, words, layer, head, with_hits, use_reentrant=False) for rows, words in parts
    ]
    losses, hits = zip(*found, strict=True)
    return torch.cat(losses), torch.cat(hits)


def _plain_losses(
    hidden: Tensor, targets: Tensor, layer: nn.Module, head: Head, with_hits: bool
) -> tuple[Tensor, Tensor]:
    logits, _ = head.finished(layer(hidden.to(head.dtype)).float(), None)
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses, logits.argmax(dim=1) == targets if with_hits else torch.zeros_like(targets, dtype=torch.bool)


class _StreamedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: Head, with_hits: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.head, ctx.head_trains = head, ctx.needs_input_grad[1]
        rows = hidden.to(head.dtype)
        one_pass = ctx.needs_input_grad[0] and not ctx.head_trains
        # A second pass uses unshifted logits. The sum that it divides by must use them too, so that both are rounded
        # alike. On a GPU in float16, where a loss of 11 would overflow, the exponents are computed in fp32.
        narrow = head.dtype is torch.float16 and hidden.device.type == "cuda"
        shifted = head.is_plain and not ctx.head_trains and not narrow
        losses, normalizer, grad = _stream(rows, targets, head, with_grad=one_pass, shifted=shifted)
        hits = _hits(rows, targets, head) if with_hits else torch.zeros_like(targets, dtype=torch.bool)
        ctx.input_dtype = hidden.dtype
        ctx.save_for_backward(*((grad,) if one_pass else (rows, targets, normalizer)))
        ctx.mark_non_differentiable(hits)
        return losses, hits

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.head_trains:
            (grad,) = ctx.saved_tensors
            return (grad * grad_losses[:, None]).to(ctx.input_dtype), None, None, None, None, None
        hidden, targets, normalizer = ctx.saved_tensors
        grad_hidden, grad_weight, grad_bias = _second_pass(hidden, targets, normalizer, grad_losses, ctx.head)
        return grad_hidden.to(ctx.input_dtype), grad_weight, grad_bias, None, None, None


def _stream(
    hidden: Tensor, targets: Tensor, head: Head, *, with_grad: bool, shifted: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return losses, log-sum-exp of the logits, and the losses' gradient by `hidden` (fp32). With `shifted`, the
    reference is subtracted within the product, which a head with bias or soft cap does not allow.

    The softmax is computed relative to the target's logit, which is known beforehand, so that no pass searches for the
    maximum. Only a logit 88 above it (a loss of 88) overflows; the rows' maximum logits are then computed."""
    target_logits, slopes = _target_logits(hidden, targets, head)
    total, grad, reference = _sums(hidden, target_logits, head, with_grad=with_grad, shifted=shifted)
    if head.watches and not torch.isfinite(total).all():
        total, grad, reference = _sums(hidden, _highest(hidden, head), head, with_grad=with_grad, shifted=shifted)
    normalizer = reference + torch.log(total)
    if grad is not None:
        pull = head.weight[targets].float()
        grad = grad.div_(total[:, None]).sub_(pull if slopes is None else pull.mul_(slopes[:, None])).mul_(head.scale)
    return normalizer - target_logits, normalizer, grad


def _sums(
    hidden: Tensor, wished_reference: Tensor, head: Head, *, with_grad: bool, shifted: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return Σ exp(logit - reference) over the vocabulary, its gradient by `hidden` up to the head's scale, and the
    reference used: the wished one, rounded to the head's type."""
    exponents = (wished_reference * LOG2_E).to(head.dtype)
    reference = exponents.float() / LOG2_E
    total = torch.zeros_like(wished_reference)
    grad = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device) if with_grad else None
    for start, block in head.blocks():
        slope = None
        if shifted:
            weights = torch.addmm(-exponents[:, None], hidden, block.T, alpha=LOG2_E * head.scale).exp2_()
            total += weights.sum(dim=1).float()  # summed in fp32, rounded once a block
        else:
            logits, slope = head.logits(hidden, start, block)
            weights = logits.sub_(reference[:, None]).exp_()
            total += weights.sum(dim=1)
            weights = (weights if slope is None else weights.mul_(slope)).to(head.dtype)
        if grad is not None:
            grad += (weights @ block).float()  # adding two types at once is much slower
    return total, grad, reference


def _target_logits(hidden: Tensor, targets: Tensor, head: Head) -> tuple[Tensor, Tensor | None]:
    """Return the targets' logits in fp32 [rows], and the soft cap's derivative there."""
    logits = (hidden.float() * head.weight[targets]).sum(dim=1)
    return head.finished(logits, None if head.bias is None else head.bias[targets])


def _highest(hidden: Tensor, head: Head) -> Tensor:
    found = torch.full((hidden.shape[0],), float("-inf"), device=hidden.device)
    for start, block in head.blocks():
        found = torch.maximum(found, head.logits(hidden, start, block)[0].amax(dim=1))
    return found


def _hits(hidden: Tensor, targets: Tensor, head: Head) -> Tensor:
    """Say for each row whether the first word with the highest logit is the target."""
    highest = torch.full((hidden.shape[0],), float("-inf"), device=hidden.device)
    best = torch.zeros_like(targets)
    for start, block in head.blocks():
        block_max, block_best = head.logits(hidden, start, block)[0].max(dim=1)
        best = torch.where(block_max > highest, block_best + start, best)
        highest = torch.maximum(highest, block_max)
    return best == targets


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
    """Return whether each target is in the block, and where, [rows, 1]. The host does not wait for the device."""
    place = targets - start
    return (place >= 0) & (place < block.shape[0]), place.clamp(0, block.shape[0] - 1)[:, None]

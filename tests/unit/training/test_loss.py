"""Compares the streamed loss with plain cross-entropy over all logits at once."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from worker.training.ops import cross_entropy
from worker.training.ops.cross_entropy import Head, token_losses

ROWS, DIM, WORDS = 13, 24, 350


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    logits = F.linear(hidden, weight, bias) * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use four blocks, the last of which is not full."""
    monkeypatch.setattr(cross_entropy, "BLOCK", 100)


@pytest.mark.parametrize("head_trains", [False, True])
@pytest.mark.parametrize(("with_bias", "scale", "softcap"), [(False, 1.0, None), (True, 0.5, None), (True, 1.5, 3.0)])
def test_loss_and_gradients_equal_plain_cross_entropy(
    head_trains: bool, with_bias: bool, scale: float, softcap: float | None
) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, DIM, requires_grad=True)
    weight = torch.randn(WORDS, DIM, requires_grad=head_trains)
    bias = torch.randn(WORDS, requires_grad=head_trains) if with_bias else None
    targets = torch.randint(WORDS, (ROWS,))
    targets[:3] = plain(hidden, weight, bias, scale, softcap)[:3].argmax(dim=1)
    weights_of_rows = torch.rand(ROWS)
    leaves = [leaf for leaf in (hidden, weight, bias) if leaf is not None and leaf.requires_grad]

    logits = plain(hidden, weight, bias, scale, softcap)
    expected = F.cross_entropy(logits, targets, reduction="none")
    expected_grads = torch.autograd.grad(expected @ weights_of_rows, leaves)
    found, hits = token_losses(hidden, targets, Head(weight, bias, torch.float32, scale, softcap), with_hits=True)
    found_grads = torch.autograd.grad(found @ weights_of_rows, leaves)

    torch.testing.assert_close(found, expected)
    assert hits.equal(logits.argmax(dim=1) == targets)
    assert hits.any()
    for grad, expected_grad in zip(found_grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-5)


def test_gradient_by_finite_differences() -> None:
    torch.manual_seed(0)
    weight = torch.randn(WORDS, DIM, dtype=torch.float64)
    targets = torch.randint(WORDS, (3,))
    hidden = torch.randn(3, DIM, dtype=torch.float64, requires_grad=True)
    head = Head(weight, None, torch.float64, softcap=5.0)
    # The online sums are fp32 by design, so the steps are coarse.
    assert torch.autograd.gradcheck(
        lambda rows: token_losses(rows, targets, head)[0].double(), hidden, eps=1e-2, atol=2e-3, rtol=1e-2
    )


def test_far_apart_logits_stay_finite() -> None:
    hidden = torch.eye(2, DIM) * 1000
    weight = torch.zeros(WORDS, DIM)
    weight[300, 0] = 1.0
    losses, hits = token_losses(hidden, torch.tensor([300, 5]), Head(weight, None, torch.float32), with_hits=True)
    # At a logit of 1,000 the resolution of fp32 is 6e-5.
    torch.testing.assert_close(losses, torch.tensor([0.0, torch.log(torch.tensor(float(WORDS)))]), atol=1e-4, rtol=1e-6)
    assert hits.tolist() == [True, False]


@pytest.mark.parametrize("softcap", [None, 500.0])
def test_a_target_far_below_the_highest_logit(softcap: float | None) -> None:
    """Use a target so low that the softmax relative to its logit overflows, and is repeated relative to the highest."""
    hidden = (torch.eye(2, DIM) * 1000).requires_grad_()
    weight = torch.zeros(WORDS, DIM)
    weight[300, 0] = 1.0
    losses, _ = token_losses(hidden, torch.tensor([5, 5]), Head(weight, None, torch.float32, softcap=softcap))
    expected = F.cross_entropy(plain(hidden, weight, None, 1.0, softcap), torch.tensor([5, 5]), reduction="none")
    torch.testing.assert_close(losses, expected, atol=1e-4, rtol=1e-6)
    grads = [torch.autograd.grad(found.sum(), hidden, retain_graph=True)[0] for found in (losses, expected)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("head_trains", [False, True])
def test_large_logits_are_as_exact_in_bfloat16_as_in_the_plain_code(head_trains: bool) -> None:
    """Use logits of 20 and more, as real models have, where bf16 is no finer than 0.1: sum and terms must be rounded
    alike."""
    torch.manual_seed(0)
    rows, words = torch.randn(ROWS, DIM) * 3, torch.randn(WORDS, DIM)
    targets = torch.randint(WORDS, (ROWS,))

    def gradient(dtype: torch.dtype, *, streamed: bool) -> Tensor:
        hidden = rows.clone().requires_grad_()
        weight = words.clone().requires_grad_(head_trains)
        if streamed:
            losses, _ = token_losses(hidden, targets, Head(weight, None, dtype))
        else:
            logits = F.linear(hidden.to(dtype), weight.to(dtype)).float()
            losses = F.cross_entropy(logits, targets, reduction="none")
        grads = torch.autograd.grad(losses.mean(), [hidden, weight] if head_trains else [hidden])
        return torch.cat([grad.flatten() for grad in grads])

    exact = gradient(torch.float32, streamed=False)
    found, allowed = (
        (gradient(torch.bfloat16, streamed=streamed) - exact).norm() / exact.norm() for streamed in (True, False)
    )
    assert found < 1.2 * allowed

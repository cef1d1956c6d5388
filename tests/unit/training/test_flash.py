"""Tests the calls of FlashAttention's operators, as far as this is possible without a GPU. tests/gpu tests their
numbers.
"""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from worker.training.ops import attention
from worker.training.ops.attention import attend, takes_flash
from worker.training.ops.flash import DocumentLengths, attend_flash, bounds_of

LENGTHS = [24, 16]
SCALE = 0.3


class PlainKernels:
    """Replaces the operators by the same calls with plain products on the CPU."""

    def __init__(self) -> None:
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, *rest: Any, **options: Any) -> tuple[Any, ...]:
        seed, unused, log_sum = torch.zeros(2), torch.zeros(1), torch.zeros(q.shape[1], q.shape[0])
        return self._attend(q, k, v, bounds, options), log_sum, seed, unused, unused

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, log_sum: Tensor, bounds: Tensor,
        *rest: Any, **options: Any,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        assert grad.is_contiguous()
        is_strict = not torch.is_deterministic_algorithms_warn_only_enabled()
        self.modes.append((torch.are_deterministic_algorithms_enabled(), is_strict))
        with torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
            again = self._attend(*inputs, bounds, options)
        assert again.equal(output)
        return torch.autograd.grad(again, inputs, grad)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, options: dict[str, Any]) -> Tensor:
        assert options["window_size_right"] == 0
        assert all(tensor.is_contiguous() for tensor in (q, k, v))
        parts = []
        for start, end in pairwise(bounds.tolist()):
            groups = q.shape[1] // k.shape[1]
            keys, values = (it[start:end].repeat_interleave(groups, 1).transpose(0, 1) for it in (k, v))
            scores = q[start:end].transpose(0, 1) @ keys.transpose(1, 2) * options["scale"]
            places = torch.arange(end - start)
            distance = places[:, None] - places
            left = options["window_size_left"]
            hidden = (distance < 0) | (distance > left if left >= 0 else torch.zeros_like(distance).bool())
            parts.append((scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values).transpose(0, 1))
        return torch.cat(parts).contiguous()


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> PlainKernels:
    plain = PlainKernels()
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", plain.forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", plain.backward)
    return plain


def inputs() -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(2, 40, 3, 8), (2, 40, 8), (2, 40, 8)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def gradients(output: Tensor, given: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, given, torch.arange(output.numel()).view(output.shape).double().sin())


@pytest.mark.parametrize("window", [None, 5])
def test_layout_window_and_gradients_equal_our_attention(window: int | None, kernels: PlainKernels) -> None:
    given = inputs()
    expected = attend(*given, LENGTHS, SCALE, window)
    found = attend_flash(*given, LENGTHS, SCALE, window)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(gradients(found, given), gradients(expected, given), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_backward_is_strictly_deterministic_and_nothing_else_is(kernels: PlainKernels) -> None:
    """Use the mode that only warns, in which torch's kernel adds in any order."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    given = inputs()
    gradients(attend_flash(*given, LENGTHS, SCALE, None), given)
    assert kernels.modes == [(True, True)]
    assert torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize("window", [None, 5])
def test_torchs_operators_accept_the_arguments(window: int | None) -> None:
    """Call the real operators on tensors without numbers."""
    query = torch.empty(2, 40, 3, 8, dtype=torch.bfloat16, device="meta", requires_grad=True)
    key, value = (torch.empty(2, 40, 8, dtype=torch.bfloat16, device="meta", requires_grad=True) for _ in range(2))
    output = attend_flash(query, key, value, LENGTHS, SCALE, window)
    assert (output.shape, output.dtype) == ((40, 6, 8), torch.bfloat16)
    output.sum().backward()
    for tensor in (query, key, value):
        assert tensor.grad is not None
        assert (tensor.grad.shape, tensor.grad.dtype) == (tensor.shape, torch.bfloat16)


def test_bounds_are_copied_to_the_device_once() -> None:
    lengths = DocumentLengths(LENGTHS)
    lengths.bounds = torch.tensor([0, 24, 40])
    assert bounds_of(lengths, torch.device("cpu")) is lengths.bounds
    assert bounds_of(LENGTHS, torch.device("cpu")).tolist() == [0, 24, 40]
    assert DocumentLengths.on(torch.device("cpu"), LENGTHS).bounds is None  # nothing reads them there


@pytest.mark.parametrize(
    ("capability", "dtype", "dim", "softcap", "expected"),
    [
        ((9, 0), torch.bfloat16, 128, None, True),
        ((8, 0), torch.float16, 256, None, True),
        ((7, 5), torch.float16, 128, None, False),
        ((9, 0), torch.float32, 128, None, False),
        ((9, 0), torch.bfloat16, 128, 50.0, False),
        ((9, 0), torch.bfloat16, 264, None, False),
        ((9, 0), torch.bfloat16, 36, None, False),
        ((9, 0), torch.bfloat16, 224, None, True),
        ((8, 9), torch.bfloat16, 224, None, False),
    ],
)
def test_supported_heads_and_gpus(
    capability: tuple[int, int],
    dtype: torch.dtype,
    dim: int,
    softcap: float | None,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert takes_flash(dtype, dim, softcap) == expected
    assert attention._is_varlen(torch.empty(1, 1, 1, dim, dtype=dtype), softcap) is False  # on the CPU

"""Tests the conversion of AdamW's state between optimizers: torch's, and bitsandbytes' with 8 and with 32 bits, whose
real kernels run on a CPU too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import create_dynamic_map, dequantize_blockwise
from bitsandbytes.optim import AdamW as AdamW32bit
from bitsandbytes.optim import AdamW8bit
from torch import Tensor, nn

from worker.training.checkpoint.checkpoint import (
    Position,
    TrainState,
    read_checkpoint,
    restore,
    take_snapshot,
    write_checkpoint,
)
from worker.training.checkpoint.optimizer_state import dequantized
from worker.training.checkpoint.train_state import Evaluations
from worker.training.data.row_losses import make_unknown_losses

MAKE: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "torch": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True),
    "8 bit": lambda parameters: AdamW8bit(parameters, lr=0.01),
    "32 bit": lambda parameters: AdamW32bit(parameters, lr=0.01),
}
CHANGES = [(old, new) for old in MAKE for new in MAKE if old != new]
ROWS, COLUMNS = 65, 67
"""Make more than the 4,096 numbers from which bitsandbytes uses 8 bits, and not a multiple of its blocks of 256."""


def train_state(kind: str) -> TrainState:
    """Return a state with a matrix, and with a vector that is too small for 8 bits."""
    torch.manual_seed(0)
    weights = {"matrix": nn.Parameter(torch.randn(ROWS, COLUMNS)), "vector": nn.Parameter(torch.randn(ROWS))}
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainState(weights, MAKE[kind](weights.values()), scaler, Position(), Evaluations(), make_unknown_losses(2))


def train(one: TrainState, *steps: int) -> list[float]:
    """Return the losses of a linear regression, one batch per step."""
    losses = []
    matrix, vector = one.trainable.values()
    generator = torch.Generator().manual_seed(1)
    wanted = torch.randn(ROWS, COLUMNS, generator=generator)
    for step in steps:
        inputs = torch.randn(32, COLUMNS, generator=generator.manual_seed(1000 + step))
        loss = (inputs @ (matrix - wanted).T + vector - 1).square().mean()
        one.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        one.optimizer.step()
        losses.append(loss.item())
    return losses


def carried(one: TrainState, kind: str, folder: Path) -> TrainState:
    """Return the state that a checkpoint of it becomes with another optimizer."""
    other = train_state(kind)
    restore(read_checkpoint(write_checkpoint(folder, take_snapshot(one, {}))), other)
    return other


def kept(one: TrainState, name: str) -> dict[str, Any]:
    return one.optimizer.state[one.trainable[name]]


def coarseness(signed: bool) -> float:
    """Return the largest distance of a number between -1 (or 0) and 1 from the nearest code."""
    codes = create_dynamic_map(signed=signed).sort().values
    least, most = float(codes[0]), float(codes[-1])
    return max(float(codes.diff().max()) / 2, least - (-1 if signed else 0), 1 - most)


def test_to_8_bits_and_back_loses_no_more_than_the_quantization(tmp_path: Path) -> None:
    before = train_state("torch")
    train(before, *range(10))
    after = carried(carried(before, "8 bit", tmp_path / "there"), "torch", tmp_path / "back")
    for moment, signed in (("exp_avg", True), ("exp_avg_sq", False)):
        old, new = kept(before, "matrix")[moment], kept(after, "matrix")[moment]
        for old_block, new_block in zip(old.flatten().split(256), new.flatten().split(256), strict=True):
            most = coarseness(signed) * float(old_block.abs().max())
            assert 0 < float((new_block - old_block).abs().max()) <= most * 1.01
        assert kept(after, "vector")[moment].equal(kept(before, "vector")[moment]), "must never be quantized"
    assert kept(after, "matrix")["step"] == 10


def test_8_bits_are_read_as_bitsandbytes_reads_them() -> None:
    one = train_state("8 bit")
    train(one, *range(10))
    state = kept(one, "matrix")
    for number in ("1", "2"):
        codes: Tensor = state[f"state{number}"]
        assert codes.dtype == torch.uint8
        its_own = dequantize_blockwise(
            codes, absmax=state[f"absmax{number}"], code=state[f"qmap{number}"], blocksize=256
        )
        assert dequantized(state, number).equal(its_own)


@pytest.mark.parametrize(("old", "new"), CHANGES, ids=[f"{old} to {new}" for old, new in CHANGES])
def test_a_training_continues_with_another_optimizer(old: str, new: str, tmp_path: Path) -> None:
    """Compare with a training that never changed. One that lost its moments differs much more."""
    first = train_state(old)
    train(first, *range(30))
    changed = carried(first, new, tmp_path)
    forgetful = train_state(new)
    for name, parameter in forgetful.trainable.items():
        parameter.data.copy_(first.trainable[name].data)
    whole, carried_on, forgot = (train(each, *range(30, 60)) for each in (first, changed, forgetful))
    assert kept(changed, "matrix")["step"] == 60
    assert carried_on == pytest.approx(whole, rel=0.005)
    far, near = (max(abs(a - b) for a, b in zip(losses, whole, strict=True)) for losses in (forgot, carried_on))
    assert near < far / 10
    assert whole[-1] < whole[0] * 0.9

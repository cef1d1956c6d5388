"""Finds a case's faults by running it with two layers and with four."""

import traceback
from collections import Counter
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from tests.cuda_dry_run.bars import DOCUMENT_LENGTHS, MODELS, NUM_TOKENS, SLACK, Bar
from tests.cuda_dry_run.cases import Case
from tests.cuda_dry_run.device import ENGINE, fake_cuda
from tests.cuda_dry_run.engine import Trace, trace
from tests.fixtures.tiny_models import CONFIGS

FEW, MANY = 2, 4
"""Count layers. The difference between the two runs is the effect of a layer."""
LENGTHS = [41, 24]
KEPT_DTYPES = {"float32", "bool", "int32", "int64", "uint64", "uint8"}
"""Lists the types that may be kept in addition to the case's: sums over rows, masks, indices and a random
generator's state."""


@dataclass(frozen=True)
class Fault:
    case: str
    kind: str
    """Is error, gradient, kept or waits. For a bar it can also be launches or bytes_kept."""
    message: str


@dataclass(frozen=True)
class Cost:
    """Holds the cost of one layer."""

    bar: str
    launches: int
    bytes_kept: int
    """Counts the bytes per token."""

    def __str__(self) -> str:
        return f"{self.bar}: {self.launches:,} launches per layer, {self.bytes_kept:,} bytes kept per token and layer"


def judge_case(case: Case) -> list[Fault]:
    try:
        few, many = (trace(case, _tiny_config(case.family, layers), LENGTHS) for layers in (FEW, MANY))
    except Exception as error:
        return [Fault(str(case), "error", _format_error(error))]
    return [Fault(str(case), kind, message) for kind, message in faults_of(case.dtype, few, many)]


def judge_bar(bar: Bar) -> tuple[Cost | None, list[Fault]]:
    try:
        few, many = (trace(bar.case, MODELS[bar.model](layers), DOCUMENT_LENGTHS) for layers in (1, 2))
    except Exception as error:
        return None, [Fault(str(bar), "error", _format_error(error))]
    launches = many.launches.total() - few.launches.total()
    cost = Cost(str(bar), launches, round((many.bytes_kept - few.bytes_kept) / NUM_TOKENS))
    found = faults_of(bar.case.dtype, few, many) + excesses_of(bar, cost)
    return cost, [Fault(str(bar), kind, message) for kind, message in found]


def planted_waits() -> Counter[str]:
    """Count the detected waits of code that does wait: three copies to the device, two numbers, two copies to the
    host. Without this, finding none in the engine would mean nothing."""
    with fake_cuda((9, 0)) as device:
        made = torch.tensor([1.0, 2.0], device="cuda")
        made.copy_(torch.ones(2))
        made += torch.ones(2).to("cuda")
        made[0].item()
        assert made.isfinite().all()
        made.cpu()
        torch.empty(2).copy_(made)
        torch.ones(2).to("cuda", non_blocking=True)
        made.copy_(torch.ones(2), non_blocking=True)
    kinds = Counter[str]()
    for wait, count in device.waits.items():
        kinds[wait.partition(" (")[0]] += count
    return kinds


def faults_of(dtype: str, few: Trace, many: Trace) -> list[tuple[str, str]]:
    """Return each fault's kind and message. `many` has more layers."""
    faults = [("gradient", f"{name} has no gradient of its shape, type and device") for name in many.wrong_gradients]
    added = Counter((held.device, held.dtype, held.operation) for held in many.kept)
    added -= Counter((held.device, held.dtype, held.operation) for held in few.kept)
    for device, kept, operation in sorted(added):
        if device != "cuda" or kept not in KEPT_DTYPES | {dtype}:
            faults.append(("kept", f"{operation} keeps {kept} on {device} in each layer"))
    return faults + [("waits", f"each layer waits for {wait}") for wait in many.waits - few.waits]


def excesses_of(bar: Bar, cost: Cost) -> list[tuple[str, str]]:
    found = {"launches": (cost.launches, bar.launches), "bytes_kept": (cost.bytes_kept, bar.bytes_kept)}
    return [
        (kind, f"{value:,} per layer, {allowed:,} allowed")
        for kind, (value, allowed) in found.items()
        if value > SLACK * allowed
    ]


def _tiny_config(family: str, layers: int) -> PretrainedConfig:
    config: PretrainedConfig = CONFIGS[family]()
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = (config.layer_types * layers)[:layers]
    return config


def _format_error(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if ENGINE in frame.filename]
    where = ", ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-3:])
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({where})"

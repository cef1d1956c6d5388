"""Runs the engine's forward and backward of one micro-batch on a fake CUDA device."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from tests.cuda_dry_run.cases import Case
from tests.cuda_dry_run.device import FakeCuda, Held, fake_cuda
from tests.unit.training.conftest import make_spec
from worker.training.data.packing import Example
from worker.training.loop.gradients import accumulate
from worker.training.loop.objectives import Sft
from worker.training.model import loading
from worker.training.model.memory_plan import Plan
from worker.training.ops import attention


@dataclass(frozen=True)
class Trace:
    """Records what one micro-batch did."""

    launches: Counter[str]
    waits: Counter[str]
    kept: list[Held]
    """Lists what forward kept for backward."""
    wrong_gradients: list[str]

    @property
    def bytes_kept(self) -> int:
        return sum(held.num_bytes for held in self.kept if held.device == "cuda")


class WatchedScaler(torch.amp.GradScaler):
    """Records what forward kept, just before backward begins."""

    def __init__(self, device: FakeCuda, dtype: str):
        super().__init__("cuda", enabled=dtype == "float16")
        self.kept: list[Held] = []
        self._device = device

    def scale(self, outputs: Any) -> Any:
        self.kept = self._device.take_held()
        return super().scale(outputs)


def trace(case: Case, config: PretrainedConfig, lengths: list[int], rank: int = 16) -> Trace:
    """Trace a micro-batch of documents of `lengths` tokens. The first quarter of each carries no loss."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    examples = [_example(line, length) for line, length in enumerate(lengths, 1)]
    with fake_cuda(case.capability):
        trained = load(case, config, rank)
        trained.use_paths([] if case.plain else loading.paths_of(case.method))
    with fake_cuda(case.capability) as device:
        scaler = WatchedScaler(device, case.dtype)
        accumulate(trained, Sft(), scaler, 1, examples, lambda batch: None)
        wrong = [name for name, parameter in trained.trainable.items() if not _has_gradient(parameter)]
    return Trace(device.launches, device.waits, scaler.kept, wrong)


def load(case: Case, config: PretrainedConfig, rank: int) -> loading.Model:
    """Load the model as a job loads it, but without its weights, which no file holds."""
    plan = Plan("cuda", case.dtype, case.checkpointing, micro_batch_tokens=8192)
    adapter = {"rank": rank, "dropout": 0.1 if case.dropout else 0.0, "use_dora": case.dora}
    spec = make_spec(case.method, adapter=None if case.method == "full" else adapter)
    with patch.object(loading, "_load_dense", _make_dense), patch.object(nn.Module, "_apply", _convert):
        return loading.load_model(Path("no folder"), config, spec, plan)


def _make_dense(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    with torch.device("cuda"):
        made: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention.NAME
        )
    return made


def _convert(module: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Do what `Module.to` does, but replace parameters, keeping ties. torch would swap fake tensors in place, which
    fails while PEFT and transformers refer to them."""
    converted: dict[Tensor, Tensor] = {}
    for part in module.modules() if recurse else [module]:
        for name, parameter in part._parameters.items():
            if parameter is not None:
                if parameter not in converted:
                    moved = convert(parameter.detach())
                    converted[parameter] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
                part._parameters[name] = converted[parameter]
        part._buffers.update({name: convert(it) for name, it in part._buffers.items() if it is not None})
    return module


def _example(line: int, length: int) -> Example:
    return Example(line, torch.arange(length, dtype=torch.int32) % 500, torch.arange(length) >= length // 4)


def _has_gradient(parameter: nn.Parameter) -> bool:
    grad = parameter.grad
    return (
        grad is not None
        and (grad.shape, grad.dtype, grad.device) == (parameter.shape, parameter.dtype, parameter.device)
        and grad.device.type == "cuda"
    )

"""Decides the spec's `auto` settings for the machine and the model."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from transformers import PretrainedConfig

from app.domain.jobs.state import FailureReason
from worker.training.model.device import explain_missing_cuda
from worker.training.rows.sampler import sides_of, token_budget
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
LEAST_TOKENS = 256
SHORTEST_ADVISED = 64
"""Is the least length that is suggested: if rows this short do not fit, their length is not the cause."""
USABLE_SHARE = 0.8
"""Is the usable share of the free memory; the rest is for what the estimate leaves out."""


@dataclass(frozen=True)
class Plan:
    device: str
    compute_dtype: str
    gradient_checkpointing: bool
    micro_batch_tokens: int
    fast_paths: tuple[str, ...] | None = None
    """Lists the fast paths of an earlier attempt, which must pass the parity check here too. With null, the parity
    check decides."""
    save_every: int | None = None
    """Is the value that `auto` resolved to. It changes no number, and each attempt decides it."""
    target_modules: tuple[str, ...] | None = None
    """Is the value that `all-linear` resolved to, where it leaves layers out. The model decides it."""
    repeats_bits: bool = True
    """Says whether the training gives the same bits each time on this machine."""

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.compute_dtype]

    def resolved(self, request: TrainingRequest) -> dict[str, Any]:
        """Return all decisions by the spec's field names. The spec and the model make some of them."""
        decided, given = self.decided_here(request), request.spec.training
        training: dict[str, Any] = {"learning_rate": given.learning_rate, "max_seq_len": given.max_seq_len}
        if self.save_every is not None:
            training["save_every"] = self.save_every
        adapter = request.spec.adapter
        of_adapter: dict[str, Any] = {"alpha": adapter.lora_alpha} if adapter else {}
        if self.target_modules is not None:
            of_adapter["target_modules"] = list(self.target_modules)
        return decided | ({"adapter": of_adapter} if adapter else {}) | {"training": training | decided["training"]}

    def decided_here(self, request: TrainingRequest) -> dict[str, Any]:
        """Return the decisions of this process, made for its machine and by the rows; a fingerprint includes them.

        Decisions without a field in the spec are under `engine`."""
        engine: dict[str, Any] = {"compute_dtype": self.compute_dtype, "micro_batch_tokens": self.micro_batch_tokens}
        if self.fast_paths is not None:
            engine["fast_paths"] = list(self.fast_paths)
        if not self.repeats_bits:  # so that no other attempt counts as its exact continuation
            engine["attention"] = f"not deterministic (attempt {request.attempt})"
        decided: dict[str, Any] = {
            "resources": {"device": self.device},
            "training": {"gradient_checkpointing": self.gradient_checkpointing} | decided_by_rows(request),
            "engine": engine,
        }
        if request.spec.method == "qlora":
            decided["quantization"] = {"compute_dtype": self.compute_dtype}
        return decided


def decided_by_rows(request: TrainingRequest) -> dict[str, Any]:
    """Return the decisions that do not depend on the machine. Preferences have none."""
    return {"train_on": request.train_on} if request.spec.objective == "sft" else {}


def make_plan(
    request: TrainingRequest, config: PretrainedConfig, longest_row: int, earlier: dict[str, Any] | None = None
) -> Plan:
    """Make the plan. Earlier decisions are kept, unless they were made for another kind of device."""
    device = _device(request.device)
    if earlier is not None and earlier["resources"]["device"] == device:
        paths = earlier["engine"].get("fast_paths")
        return Plan(
            device=device,
            compute_dtype=earlier["engine"]["compute_dtype"],
            gradient_checkpointing=earlier["training"]["gradient_checkpointing"],
            micro_batch_tokens=earlier["engine"]["micro_batch_tokens"],
            fast_paths=None if paths is None else tuple(paths),
        )
    return _decide(request, config, device, longest_row)


def next_smaller_plan(plan: Plan, wish: bool | Literal["auto"], longest_row: int) -> Plan | None:
    """Return the next plan to try when memory did not suffice: checkpointing first, where the spec leaves it open, then
    half the micro-batch at the same rows a step. Returns None if no smaller plan exists."""
    if not plan.gradient_checkpointing and wish == "auto":
        return replace(plan, gradient_checkpointing=True)
    if plan.micro_batch_tokens > max(LEAST_TOKENS, longest_row):
        return replace(plan, micro_batch_tokens=plan.micro_batch_tokens // 2)
    return None


def suggest_smaller_settings(request: TrainingRequest, sizes: "Sizes", plan: Plan, longest_row: int) -> str:
    """Suggest settings for a job that no plan makes small enough, from the estimate and the memory that is free now or
    held by this process. It suggests at most half the longest row's length: the estimate may be too low, and that
    length failed."""
    usable = USABLE_SHARE * (_free_memory(plan.device) + _held_memory(plan.device))
    tokens = longest_row // 2
    while tokens >= SHORTEST_ADVISED and sizes.bytes_needed(tokens, plan.compute_dtype, checkpointing=True) > usable:
        tokens //= 2
    advice = []
    if tokens >= SHORTEST_ADVISED:
        tokens //= sides_of(request.spec.objective)
        advice.append(f"max_seq_len {tokens:,} (the longest row has {longest_row:,} tokens)")
    if request.spec.training.gradient_checkpointing is False:
        advice.append("gradient_checkpointing true")
    if request.spec.method != "qlora":
        advice.append('the method "qlora"')
    if sizes.rank > 16:
        advice.append("a smaller adapter rank")
    return " or ".join(advice) if advice else "a worker with more memory"


def _decide(request: TrainingRequest, config: PretrainedConfig, device: str, longest_row: int) -> Plan:
    asked = request.spec.quantization.compute_dtype if request.spec.quantization else "auto"
    dtype = _fast_dtype(device) if asked == "auto" else asked
    sizes = Sizes.of(request, config)
    usable = USABLE_SHARE * _free_memory(device)
    wish = request.spec.training.gradient_checkpointing
    budget = token_budget(device, request.spec.training.memory)
    if request.spec.training.memory == "min":
        wish = wish if wish is False else True
    while True:
        checkpointing = wish
        tokens = max(budget, longest_row)
        if wish == "auto":
            checkpointing = sizes.bytes_needed(tokens, dtype, checkpointing=False) > usable
        assert isinstance(checkpointing, bool)
        fits = sizes.bytes_needed(tokens, dtype, checkpointing=checkpointing) <= usable
        if fits or budget <= max(LEAST_TOKENS, longest_row):
            return Plan(device, dtype, checkpointing, budget)
        budget //= 2


@dataclass(frozen=True)
class Sizes:
    """Holds the model's sizes for the memory estimate."""

    method: str
    double_quant: bool
    hidden: int
    intermediate: int
    layers: int
    vocabulary: int
    num_parameters: int
    rank: int

    @classmethod
    def of(cls, request: TrainingRequest, config: PretrainedConfig) -> "Sizes":
        text = config.get_text_config()
        return cls(
            method=request.spec.method,
            double_quant=request.spec.quantization is None or request.spec.quantization.double_quant,
            hidden=text.hidden_size,
            intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
            layers=text.num_hidden_layers,
            vocabulary=text.vocab_size,
            num_parameters=count_parameters(request.base_model_path),
            rank=request.spec.adapter.rank if request.spec.adapter else 0,
        )

    def bytes_needed(self, tokens: int, dtype: str, *, checkpointing: bool) -> float:
        """Estimate the peak of weights, optimizer, activations and loss for one micro-batch of `tokens`."""
        width = DTYPES[dtype].itemsize
        embeddings = self.vocabulary * self.hidden
        match self.method:
            case "full":
                weights = 16.0 * self.num_parameters
            case "lora":
                weights = float(width * self.num_parameters)
            case _:
                packed = 0.5159 if self.double_quant else 0.5625
                weights = packed * (self.num_parameters - embeddings) + width * embeddings
        adapters = 16.0 * self.layers * self.rank * (9 * self.hidden + 3 * self.intermediate)
        # A layer keeps its norms' inputs in fp32 several times over, and the gate, the product and similar tensors.
        layer = tokens * (56 * self.hidden + 6 * width * self.intermediate)
        activations = self.layers * tokens * self.hidden * width + layer if checkpointing else self.layers * layer
        loss = tokens * (4096 * 6 + self.hidden * 8)
        workspace = 2.0 * width * self.hidden * max(self.intermediate, self.hidden)
        return weights + adapters + activations + loss + workspace


def count_parameters(folder: Path) -> int:
    """Count the parameters from the files' headers alone."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                count = 1
                for length in file.get_slice(name).get_shape():
                    count *= length
                total += count
    return total


def _device(asked: str) -> str:
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and (why := explain_missing_cuda()) is not None:
        raise TrainingFailed(
            FailureReason.internal_error,
            f"The job needs a GPU, but torch {torch.__version__} cannot use one on this worker: {why}",
        )
    return asked


def _fast_dtype(device: str) -> str:
    """Return the 16-bit type that the device multiplies fast, otherwise fp32."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float16"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


def _held_memory(device: str) -> int:
    """Return the bytes that this process holds: weights and its allocator's reserve."""
    if device == "cuda":
        return int(torch.cuda.memory_reserved())
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _free_memory(device: str) -> int:
    """Return the free bytes, within the container's limit if there is one."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return free

"""Compares the fast paths' gradients with those of transformers and PEFT, before the first step, once a machine.

The check uses a model of the base's first two layers, its norm and a part of its head, and two documents; no step is
taken. The gradients of each path are compared with those of the plain code in fp32. In the compute type they may differ
by half as much again as the plain code's, since rounding depends on the order of operations. That would hide a missing
soft cap where logits are small, and so they are compared in fp32 too. A path whose code raises an error is refused as
well. The verdict is stored in the cache folder.
"""

import copy
import hashlib
import json
import logging
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import FailureReason
from app.domain.jobs.training_config import AdapterSpec
from app.files import replacing
from worker.training.data.packing import Example, MicroBatch, pack_micro_batch
from worker.training.model.device import kernel_facts, library_versions
from worker.training.model.loading import ALL_PATHS, ALWAYS_TAKEN, Model, paths_of
from worker.training.model.lora import add_lora
from worker.training.model.memory_plan import Plan
from worker.training.model.out_of_memory import free_memory, is_out_of_memory
from worker.training.ops.nf4 import dense_weight
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.numerics import machine_facts

log = logging.getLogger(__name__)

WINDOW = 16
"""Sets a small sliding window, so that a short document is longer than it."""
LENGTHS = (41, 24)
LAYERS = 2
WORDS = 2048
NARROW = 1024
"""Limits a layer's width where memory does not suffice for all of it."""
TOLERATED = 1.5
"""Is the tolerated multiple of the plain code's error, which is zero in fp32."""
FLOOR = 2e-5
"""Is the relative error that counts as rounding in any type."""


@dataclass(frozen=True)
class Verdict:
    paths: frozenset[str]
    refused: dict[str, tuple[float, float]]
    """Maps each refused path to its relative gradient error and the allowed error. The error is infinite where the code
    raised."""

    def why_refused(self, path: str) -> str:
        error, allowed = self.refused[path]
        if not math.isfinite(error):
            return "its code raised an error"
        return f"the relative error of its gradients is {error:.2g}, and at most {allowed:.2g} is allowed"


def check_parity(model: Model, spec: JobSpec, cache_dir: Path) -> Verdict:
    """Return the fast paths that pass for this architecture. `model` itself is not changed."""
    place = cache_dir / "parity" / f"{_key(model, spec)}.json"
    if (kept := _read_verdict(place)) is not None:
        return kept
    with torch.random.fork_rng(devices=[model.plan.device] if model.plan.device == "cuda" else []):
        verdict = _run_check_in_memory(model, spec)
    _store_verdict(place, verdict)
    return verdict


def _read_verdict(place: Path) -> Verdict | None:
    """Read a stored verdict. A damaged file counts as none: the check runs again and replaces it."""
    try:
        found = json.loads(place.read_text())
        refused = {path: (error, allowed) for path, (error, allowed) in found["refused"].items()}
        return Verdict(frozenset(found["paths"]), refused)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _store_verdict(place: Path, verdict: Verdict) -> None:
    """Store the verdict. If the folder cannot be written, the next job repeats the check."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place, "keep_parity", mode=0o644) as file:
            file.write(json.dumps({"paths": sorted(verdict.paths), "refused": verdict.refused}).encode())
    except OSError as error:
        log.warning("Could not store the parity check's verdict: %s", error)


def _run_check_in_memory(model: Model, spec: JobSpec) -> Verdict:
    """Run the check. If whole layers in fp32 do not fit in memory, repeat it on narrower ones, cut from the model's:
    the check must not end a training that would fit."""
    try:
        return _run_check(model, spec)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    free_memory(model.plan.device)
    log.warning("The parity check ran out of memory; repeating it on narrower layers")
    return _run_check(model, spec, narrow=True)


def _run_check(model: Model, spec: JobSpec, *, narrow: bool = False) -> Verdict:
    """Check in fp32 first, where no rounding hides an error, and then in the compute type, where precision can be
    lost."""
    batch = _documents(min(WORDS, model.causal.config.get_text_config().vocab_size))
    sample = _sample(model, spec, "float32", narrow=narrow)
    exact = _gradients(sample, batch, ())
    if not exact.isfinite().all():
        raise TrainingFailed(FailureReason.model_unusable, "The base model's gradients are not finite.")
    judged = _check_paths(sample, batch, exact, [path for path in ALL_PATHS if path in paths_of(spec.method)])
    if model.plan.compute_dtype == "float32":
        return judged
    del sample  # not two at once
    sample = _sample(model, spec, model.plan.compute_dtype, narrow=narrow)
    again = _check_paths(sample, batch, exact, [path for path in ALL_PATHS if path in judged.paths])
    return Verdict(again.paths, judged.refused | again.refused)


def _check_paths(sample: Model, batch: MicroBatch, exact: Tensor, wanted: list[str]) -> Verdict:
    """Check all paths at once, and one by one only if that fails. The attention path hides errors of packing, and
    an adapter with dropout does not use it: so the paths that are always used are also checked without the others."""
    allowed = TOLERATED * _error(sample, batch, exact, ()) + FLOOR
    alone = [path for path in wanted if path in ALWAYS_TAKEN]
    if all(_error_by_hand(sample, batch, exact, paths) <= allowed for paths in (alone, wanted)):
        return Verdict(sample.paths, {})
    taken: list[str] = []
    refused: dict[str, tuple[float, float]] = {}
    for path in wanted:
        found = _error_by_hand(sample, batch, exact, [*taken, path])
        if found <= allowed:
            taken.append(path)
        else:
            refused[path] = (found, allowed)
    sample.use_paths(taken)
    return Verdict(sample.paths, refused)


def _error_by_hand(sample: Model, batch: MicroBatch, exact: Tensor, paths: Iterable[str]) -> float:
    """Return the error, infinite where the code raises: a release of transformers may rename its parts."""
    try:
        return _error(sample, batch, exact, paths)
    except Exception as raised:
        if is_out_of_memory(raised):
            raise
        log.warning("A fast path raised an error", exc_info=True)
        return math.inf


def _error(sample: Model, batch: MicroBatch, exact: Tensor, paths: Iterable[str]) -> float:
    return float((_gradients(sample, batch, paths) - exact).norm() / exact.norm())


def _gradients(sample: Model, batch: MicroBatch, paths: Iterable[str]) -> Tensor:
    """Return the gradients of the mean loss by all trained weights, end to end, fp32."""
    sample.use_paths(paths)
    for parameter in sample.trainable.values():
        parameter.grad = None
    batches = [batch] if "packing" in sample.paths else [pack_micro_batch([example]) for example in batch.examples]
    for part in batches:
        losses, _ = sample.losses(part)
        (losses.sum() / len(batch.targets)).backward()  # type: ignore[no-untyped-call]
    return torch.cat([_gradient(parameter).flatten() for parameter in sample.trainable.values()])


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.float()


def _documents(words: int) -> MicroBatch:
    draw = torch.Generator().manual_seed(0)
    examples = [
        Example(line, torch.randint(3, words, (length,), generator=draw, dtype=torch.int32), torch.arange(length) > 2)
        for line, length in enumerate(LENGTHS)
    ]
    return pack_micro_batch(examples)


def _sample(model: Model, spec: JobSpec, dtype: str, *, narrow: bool = False) -> Model:
    """Build the first layers in dense weights of `dtype`, with an adapter that is not zero on every linear layer."""
    plan = Plan(model.plan.device, dtype, False, sum(LENGTHS))
    weights = torch.float32 if spec.method == "full" else plan.dtype
    config = _small(model.causal.config.get_text_config())
    if narrow:
        _narrow(config)
    torch.manual_seed(0)
    causal = AutoModelForCausalLM.from_config(config, dtype=weights, attn_implementation="eager").to(plan.device)
    _copy_weights(model.causal, causal)
    causal.requires_grad_(spec.method == "full")
    peft: PeftModel | None = None
    if spec.adapter is not None:
        rank = min(spec.adapter.rank, 16)
        alpha = spec.adapter.lora_alpha * rank / spec.adapter.rank
        adapter = AdapterSpec(rank=rank, alpha=alpha, use_dora=spec.adapter.use_dora)
        transposed = any(isinstance(module, Conv1D) for module in causal.modules())
        peft = add_lora(causal, adapter, seed=0, transposed=transposed)
        _fill_b(causal)
    trainable = {name: parameter for name, parameter in causal.named_parameters() if parameter.requires_grad}
    causal.train()
    return Model(causal, peft, trainable, plan, 0)


def _small(config: PretrainedConfig) -> PretrainedConfig:
    config = copy.deepcopy(config)
    config.num_hidden_layers = LAYERS
    config.vocab_size = min(WORDS, config.vocab_size)
    config.pad_token_id = None
    if getattr(config, "layer_types", None):
        with suppress(AttributeError):  # where it follows from the number of layers
            config.layer_types = config.layer_types[:LAYERS]
    if getattr(config, "sliding_window", None):
        config.sliding_window = WINDOW
    return config


def _narrow(config: PretrainedConfig) -> None:
    """Narrow the layers, and the hidden size where the heads' size does not follow from it."""
    widths = ["intermediate_size", *(["hidden_size"] if getattr(config, "head_dim", None) else [])]
    for name in widths:
        if isinstance(width := getattr(config, name, None), int):
            setattr(config, name, min(NARROW, width))


def _copy_weights(source: PreTrainedModel, target: PreTrainedModel) -> None:
    pairs = [(source.get_decoder(), target.get_decoder())]
    pairs.append((source.get_output_embeddings(), target.get_output_embeddings()))
    with torch.no_grad():
        for giver, taker in pairs:
            for name, parameter in taker.named_parameters():
                value = _weight(giver, name)
                if value.ndim == 2 and value.shape[0] != value.shape[1] and value.T.shape == parameter.shape:
                    value = value.T  # GPT-2's layers store [in, out]
                parameter.copy_(value[tuple(slice(length) for length in parameter.shape)])


def _weight(module: nn.Module, name: str) -> Tensor:
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if isinstance(owner, LoraLayer):
        owner = owner.get_base_layer()
    if leaf == "weight" and isinstance(owner, nn.Linear):
        return dense_weight(owner).detach()
    value: Tensor = getattr(owner, leaf)
    return value.detach()


def _fill_b(causal: PreTrainedModel) -> None:
    """Fill B, which starts at zero and would hide every error of A's gradient."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in causal.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / parameter.shape[1] * 0.1)


def _key(model: Model, spec: JobSpec) -> str:
    """Digest architecture, versions, machine and this package's code, but not the path of the model's folder."""
    facts: dict[str, Any] = {
        "config": model.causal.config.to_dict() | {"_name_or_path": None},
        "method": spec.method,
        "adapter": spec.adapter.model_dump(mode="json") if spec.adapter else None,
        "dtype": model.plan.compute_dtype,
        "libraries": library_versions(),
        "machine": machine_facts(model.plan.device, torch.get_num_threads()) | kernel_facts(model.plan.device),
        "code": _code_digest(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _code_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

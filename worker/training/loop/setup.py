"""Prepares a training: reads its rows while the model is quantized, loads the model, and chooses its fast paths."""

import time
from dataclasses import replace
from typing import Any, Final, NamedTuple

import torch
from transformers import PretrainedConfig

from app.domain.events.job_events import ModelLoaded
from app.domain.jobs.state import JobPhase
from worker.training.checkpoint.checkpoint import LoadedCheckpoint, read_checkpoint
from worker.training.checkpoint.fingerprint import earlier_plan
from worker.training.data.dataset import Rows, prepare_rows, warn
from worker.training.loop.optimizer import explain_fallback
from worker.training.model.adapter_init import start_adapter
from worker.training.model.loading import Model, load_config, load_model, quantize_ahead
from worker.training.model.memory_plan import make_plan
from worker.training.model.nf4_cache import NF4Cache
from worker.training.model.parity import check_parity
from worker.training.rows.tokenize import TokenizingHere
from worker.training.runtime.channel import Channel
from worker.training.runtime.messages import EventMessage, PhaseEntered, TrainingRequest, WorkStarted
from worker.training.runtime.tokenizing import Tokenizing

NOT_DETERMINISTIC: Final = (
    "Attention is not deterministic: FlashAttention does not support this GPU, this precision or this head size. A "
    "resumed training will not match an uninterrupted one bit for bit."
)


class TrainingSetup(NamedTuple):
    """Holds what a training starts from."""

    tokenizing: Tokenizing
    rows: Rows
    model: Model
    checkpoint: LoadedCheckpoint | None
    """Is the checkpoint to resume from."""
    parity_seconds: float


def set_up(request: TrainingRequest, channel: Channel, tokenizing: Tokenizing | None = None) -> TrainingSetup:
    """Prepare a training. Rows come first: they are quick to read, and their errors can be reported without a model."""
    channel.send(PhaseEntered(phase=JobPhase.preparing))
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import the compiler
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it cost 6 % of a step
    config = load_config(request.base_model_path)
    tokenizing = tokenizing or TokenizingHere()
    tokenizing.begin(request)
    checkpoint = read_checkpoint(request.checkpoint_path) if request.checkpoint_path else None
    earlier = earlier_plan(request, checkpoint.fingerprint) if checkpoint else request.resolved
    cache = quantize_before_rows(request, config, earlier, channel)
    rows = prepare_rows(request, tokenizing.rows(channel.raise_if_stopped, channel.send), channel)
    plan = make_plan(request, config, rows.training.longest, earlier)
    channel.send(WorkStarted(what="the loading of the model"))
    started = time.monotonic()
    model = load_model(request.base_model_path, config, request.spec, plan, cache)
    start_adapter(model, request, rows.training.documents())
    loaded_at = time.monotonic()
    channel.send(WorkStarted(what="the parity check of the fast paths"))
    choose_paths(model, request, channel)
    parity_seconds = time.monotonic() - loaded_at
    loaded = ModelLoaded(
        num_parameters=model.num_parameters,
        num_trainable_parameters=model.num_trainable,
        seconds=round(loaded_at - started, 3),
    )
    channel.send(EventMessage(event=loaded))
    if (why := explain_fallback(request.spec.training, plan.device, request.spec.adapter)) is not None:
        warn(channel, "optimizer_fallback", why)
    return TrainingSetup(tokenizing, rows, model, checkpoint, parity_seconds)


def choose_paths(model: Model, request: TrainingRequest, channel: Channel) -> None:
    """Choose the fast paths that pass here. If an earlier attempt used some, only those are chosen."""
    verdict = check_parity(model, request.spec, request.cache_dir)
    for path in sorted(verdict.refused):
        name, why = type(model.causal).__name__, verdict.why_refused(path)
        warn(channel, "parity_failed", f"The fast path {path!r} is disabled for {name}: {why}.")
    earlier = model.plan.fast_paths
    model.use_paths(verdict.paths if earlier is None else verdict.paths & set(earlier))
    model.plan = replace(model.plan, fast_paths=tuple(sorted(model.paths)), repeats_bits=model.repeats_bits)
    if not model.plan.repeats_bits:
        warn(channel, "not_deterministic", NOT_DETERMINISTIC)


def quantize_before_rows(
    request: TrainingRequest, config: PretrainedConfig, earlier: dict[str, Any] | None, channel: Channel
) -> NF4Cache | None:
    """Quantize the model before the rows are ready: neither the device nor the weights' precision depends on them."""
    quantization = request.spec.quantization
    if quantization is None:
        return None
    plan = make_plan(request, config, 0, earlier)
    folder, revision = request.base_model_path, request.base_model_revision
    double_quant = quantization.double_quant
    cache = NF4Cache.of(request.cache_dir, folder, revision, double_quant=double_quant, device=plan.device)
    quantize_ahead(folder, config, quantization, plan, cache, channel.pulse("the quantization of the model"))
    return cache

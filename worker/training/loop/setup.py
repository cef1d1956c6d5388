"""Prepares a model for training: quantizes it while the rows are read, and chooses its fast paths."""

from dataclasses import replace
from typing import Any, Final

from transformers import PretrainedConfig

from worker.training.data.dataset import warn
from worker.training.model.loading import Model, quantize_ahead
from worker.training.model.memory_plan import make_plan
from worker.training.model.nf4_cache import NF4Cache
from worker.training.model.parity import check_parity
from worker.training.runtime.channel import Channel
from worker.training.runtime.messages import TrainingRequest

NOT_DETERMINISTIC: Final = (
    "Attention is not deterministic: FlashAttention does not support this GPU, this precision or this head size. A "
    "resumed training will not match an uninterrupted one bit for bit."
)


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

"""Implements LoRA (arXiv 2106.09685) with PEFT's parameters, names and files, and a hand-written forward and backward.

PEFT computes adapters in their dtype, so that fp32 master weights would need fp32 copies of every activation. Here the
products run in the activations' dtype, A and B stay fp32, and the low-rank part is added in place.
"""

import warnings
from functools import cached_property
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel

from app.domain.jobs.state import FailureReason
from app.domain.jobs.training_config import AdapterSpec
from worker.training.model.dora import DoraLinear
from worker.training.model.targets import target_modules
from worker.training.ops.lora_linear import Products, products_of
from worker.training.runtime.errors import TrainingFailed


class AdaptedLinear(LoraLinear):  # type: ignore[misc]
    """Implements PEFT's LoRA layer over a frozen linear layer. If not `by_hand`, it computes as PEFT does."""

    by_hand = True

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.by_hand:
            return cast(Tensor, super().forward(x, *args, **kwargs))
        base = self.get_base_layer()
        if self.disable_adapters:
            return cast(Tensor, base(x))
        (name,) = self.active_adapters
        dropout = self.lora_dropout[name]
        if self.training and isinstance(dropout, nn.Dropout):
            a, b = self.lora_A[name].weight.to(x.dtype), self.lora_B[name].weight * self.scaling[name]
            return cast(Tensor, base(x) + F.linear(F.linear(dropout(x), a), b.to(x.dtype)))
        (result,) = products_of(x.reshape(-1, x.shape[-1]), self._products)
        return result.view(*x.shape[:-1], -1)

    @cached_property
    def _products(self) -> Products:
        return Products([self])


def add_lora(model: PreTrainedModel, adapter: AdapterSpec, seed: int, *, transposed: bool) -> PeftModel:
    """Add adapters to `model`, in place. A is drawn from `seed`, B is zero, both are fp32. `transposed`: the base model
    stores its weights as [in, out], which the adapter's config must state for merging."""
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.lora_alpha,
        lora_dropout=adapter.dropout,
        target_modules=target_modules(model, adapter),
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
        fan_in_fan_out=transposed,
        task_type=TaskType.CAUSAL_LM,
    )
    config._register_custom_module({nn.Linear: DoraLinear if adapter.use_dora else AdaptedLinear})
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            # PEFT warns of a tied head's adapter, which nothing here merges.
            warnings.filterwarnings("ignore", ".*tie_word_embeddings", UserWarning)
            # PEFT reads a property of transformers by its older name, regardless of its arguments.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            peft_model = get_peft_model(model, config)
    except ValueError as error:
        raise TrainingFailed(FailureReason.model_unusable, f"The adapter does not fit the model: {error}") from error
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return cast(PeftModel, peft_model)

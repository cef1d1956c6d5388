"""The plain way, to compare with: transformers' own model and attention, PEFT's own layers, padded rows, all logits."""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.domain.spec import Adapter
from worker.training.packing import Example

IGNORED = -100


def plain_model(folder: Path) -> PreTrainedModel:
    """In eval mode, where the dropout that GPT-2's config brings along rests."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    return model


def plain_adapter(folder: Path, adapter: Adapter, weights: dict[str, Tensor]) -> PeftModel:
    """`weights` are the adapter's first values, by the names of the model inside PEFT's."""
    base = plain_model(folder)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        target_modules="all-linear",
        use_rslora=adapter.use_rslora,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.modules()),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, parameter in trainable_of(model).items():
            parameter.copy_(weights[name])
    return model


def trainable_of(model: nn.Module) -> dict[str, nn.Parameter]:
    return {
        name.removeprefix("base_model.model."): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def padded_loss(model: nn.Module, examples: Sequence[Example]) -> Tensor:
    """Mean cross-entropy over the labelled tokens of a padded batch."""
    longest = max(len(example.ids) for example in examples)
    ids, mask = (torch.zeros(len(examples), longest, dtype=torch.long) for _ in range(2))
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = example.ids
        mask[row, :length] = 1
        labels[row, :length] = torch.where(example.labelled, example.ids.long(), IGNORED)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)

"""Provides the plain implementation to compare with: transformers' model and attention, PEFT's layers, padded rows, all
logits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.domain.jobs.training_config import AdapterSpec
from worker.training.data.packing import Example
from worker.training.loop.optimizer import learning_rate
from worker.training.ops.nf4 import NF4Linear, quantize_linears

IGNORED = -100


def plain_model(folder: Path) -> PreTrainedModel:
    """Load a model in eval mode, which disables the dropout of GPT-2's config."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    return model


def dequantized_model(folder: Path) -> PreTrainedModel:
    """Return the base of a QLoRA as plain layers that PEFT can read."""
    model = plain_model(folder)
    head = model.get_output_embeddings()
    quantize_linears(model, keep=head, double_quant=True, dtype=torch.float32, device=torch.device("cpu"))
    for name, layer in list(model.named_modules()):
        if isinstance(layer, NF4Linear):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            plain.weight.data = layer.dense()
            if layer.bias is not None:
                plain.bias.data = layer.bias
            model.set_submodule(name, plain)
    return model


def plain_adapter(base: PreTrainedModel, adapter: AdapterSpec, weights: dict[str, Tensor]) -> PeftModel:
    """Add an adapter. `weights` are its first values, named as in the model inside PEFT's."""
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.lora_alpha,
        target_modules=adapter.target_modules,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
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


def reference_run(model: nn.Module, run: Any) -> list[float]:
    """Take the same steps with the same rows and rates in plain code, and return the losses."""
    parameters = list(trainable_of(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    losses = []
    for step in range(1, run.total_steps + 1):
        loss = padded_loss(model, [run.rows.training[row] for row in run.epochs.rows(step)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, run.training.max_grad_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(step, run.total_steps, run.training)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def assert_moved_alike(ours: dict[str, nn.Parameter], plain: nn.Module, before: dict[str, Tensor]) -> None:
    """Check A and B separately: ‖Δθ - Δθ_ref‖ / ‖Δθ_ref‖ is below 1e-3."""
    after = trainable_of(plain)
    for part in ("lora_A", "lora_B"):
        names = [name for name in before if part in name]
        moved = torch.cat([(ours[name] - before[name]).flatten() for name in names])
        expected = torch.cat([(after[name] - before[name]).flatten() for name in names])
        assert (moved - expected).norm() / expected.norm() < 1e-3


def padded(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Return a batch in the format of transformers' models."""
    longest = max(len(example.ids) for example in examples)
    ids, mask = (torch.zeros(len(examples), longest, dtype=torch.long) for _ in range(2))
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length], mask[row, :length] = example.ids, 1
        labels[row, :length] = torch.where(example.labelled, example.ids.long(), IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def padded_loss(model: nn.Module, examples: Sequence[Example]) -> Tensor:
    """Return the mean cross-entropy over the labelled tokens of a padded batch."""
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in padded(examples).items()}
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)

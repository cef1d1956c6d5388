"""Creates AdamW with decoupled weight decay (arXiv 1711.05101), and computes the learning rate of each step."""

import math
from typing import Any, cast

import bitsandbytes
import torch
from torch import nn

from app.domain.jobs.training_config import AdapterSpec, TrainingSpec


def make_optimizer(
    trainable: dict[str, nn.Parameter], training: TrainingSpec, adapter: AdapterSpec | None = None
) -> torch.optim.Optimizer:
    """Create the optimizer. Biases and norms have no weight decay. A group's rate is the schedule's times its
    `lr_factor`: LoRA+ (arXiv 2402.12354) learns B faster than A and, as in PEFT, vectors with B's rate. torch's fused
    kernel is four times faster for an adapter's many small tensors."""
    lora_plus_ratio = adapter.lora_plus_ratio if adapter else 1.0
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        is_matrix = parameter.ndim >= 2
        decay = training.weight_decay if is_matrix else 0.0
        factor = lora_plus_ratio if "lora_B" in name or not is_matrix else 1.0
        members.setdefault((decay, factor), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for (decay, factor), parameters in members.items()
    ]
    device = next(iter(trainable.values())).device
    if training.optimizer != "adamw" and explain_fallback(training, device.type, adapter) is None:
        return cast(torch.optim.Optimizer, EightBitOrPaged(groups, training.optimizer))
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def explain_fallback(training: TrainingSpec, device: str, adapter: AdapterSpec | None) -> str | None:
    """Return why torch's AdamW replaces the bitsandbytes optimizer that the spec names, or None if it does not.
    Those save a GPU's memory, of which an adapter needs little, and wait for the GPU after each tensor, of which it
    has many."""
    asked = training.optimizer
    if asked == "adamw":
        return None
    if device != "cuda":
        return f'The optimizer "{asked}" needs CUDA; training uses "adamw" instead.'
    if adapter is not None:
        return (
            f'The optimizer "{asked}" is slow for an adapter, since it waits for the GPU after each small tensor; '
            'training uses "adamw" instead, whose state is small for an adapter.'
        )
    return None


class EightBitOrPaged(bitsandbytes.optim.AdamW):  # type: ignore[misc]
    """Implements AdamW with 8-bit blockwise state (arXiv 2110.02861), paged state (QLoRA, arXiv 2305.14314), or both.
    Tensors under 4,096 numbers keep 32-bit state, and those under 100,000 are not paged."""

    def __init__(self, groups: list[dict[str, Any]], name: str):
        bits = 8 if name.endswith("8bit") else 32
        super().__init__(groups, lr=0.0, optim_bits=bits, is_paged=name.startswith("paged"))

    def load_state_dict(self, state_dict: dict[str, Any], move_to_device: bool = True) -> None:
        """Load the state and page it again: bitsandbytes itself would leave paged state on the device."""
        super().load_state_dict(state_dict, move_to_device)
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                for key in state.keys() & {"state1", "state2"}:
                    buffer = self.get_state_buffer(parameter, dtype=state[key].dtype)
                    state[key] = buffer.copy_(state[key])


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]


def learning_rate(step: int, total_steps: int, training: TrainingSpec) -> float:
    """Return the rate of step 1 to `total_steps`: a linear warm-up that neither starts at zero nor ends before the full
    rate, then the schedule, whose last step is still above zero."""
    assert not isinstance(training.learning_rate, str)
    warmup = math.ceil(training.warmup_ratio * total_steps)
    done = step - 1
    if done < warmup:
        return training.learning_rate * (done + 1) / (warmup + 1)
    progress = (done - warmup) / (total_steps - warmup)
    match training.schedule:
        case "constant":
            factor = 1.0
        case "linear":
            factor = 1.0 - progress
        case "cosine":
            factor = 0.5 * (1.0 + math.cos(math.pi * progress))
    return training.learning_rate * factor

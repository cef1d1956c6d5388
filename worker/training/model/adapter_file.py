"""Converts an adapter's weights to and from PEFT's files, for results and checkpoints alike."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor

from worker.training.model.loading import Model
from worker.training.runtime.messages import TrainingRequest

WEIGHTS: Final = "adapter_model"
"""Is the name of the weights' file, without its extension."""


@dataclass(frozen=True)
class AdapterConverter:
    """Holds the adapter's config, and converts its weights to the file and back, bit for bit."""

    config: LoraConfig
    names: Mapping[str, str]
    """Maps the parameters' names to the file's."""
    initial: Mapping[str, Tensor]
    """Holds the initial A and B, by the file's names, on the CPU. Empty unless the init splits them from the base
    weights."""

    @classmethod
    def of(cls, model: Model, request: TrainingRequest) -> "AdapterConverter | None":
        """Describe the model's adapter, or return None if there is none. The base has its name on the hub, or else that
        in the model registry: a path would mean nothing on another machine."""
        if model.peft is None:
            return None
        assert request.spec.adapter is not None
        config, saved = copy.deepcopy(model.peft.peft_config["default"]), request.spec.adapter.as_saved()
        address = request.base_address or (request.base_model, request.base_model_revision)
        config.base_model_name_or_path, config.revision = address
        config.inference_mode = True
        config.r, config.lora_alpha, config.use_rslora = saved.rank, saved.lora_alpha, saved.use_rslora
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)
        weights = get_peft_model_state_dict(model.peft, save_embedding_layers=False)
        by_place = {weight.data_ptr(): name for name, weight in weights.items()}
        names = {name: by_place[parameter.data_ptr()] for name, parameter in model.trainable.items()}
        assert names.keys() == model.trainable.keys()
        assert set(names.values()) == weights.keys()
        return cls(config, names, {name: start.cpu() for name, start in model.initial_adapter.items()})

    def write_config(self, folder: Path) -> None:
        self.config.save_pretrained(folder)

    def to_file(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert weights by parameter, on the CPU. Where the init rewrote the base, the adapter is B·A - B0·A0, as one
        product: A is stacked on A0, and B is placed next to -B0. It applies to the base from which B0·A0 was split."""
        named = {self.names[name]: weight for name, weight in weights.items()}
        return named | {name: _less(named[name], start, name) for name, start in self.initial.items()}

    def from_file(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights by parameter. Raises ValueError if the file is another adapter's."""
        if weights.keys() != set(self.names.values()):
            raise ValueError("The tensors have different names")
        own = {name: _front(weights[name], start, name) for name, start in self.initial.items()}
        return {name: own.get(saved, weights[saved]) for name, saved in self.names.items()}


def _less(weight: Tensor, start: Tensor, name: str) -> Tensor:
    return torch.cat([weight, start]) if "lora_A" in name else torch.cat([weight, -start], dim=1)


def _front(weight: Tensor, start: Tensor, name: str) -> Tensor:
    return weight[: len(start)] if "lora_A" in name else weight[:, : start.shape[1]].contiguous()

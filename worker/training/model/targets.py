"""Chooses the linear layers of `all-linear`: all but the head and those on which no adapter can be trained."""

from typing import Final

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.domain.jobs.training_config import AdapterSpec

REFUSED: Final = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
"""Lists the model types of which PEFT refuses each `out_proj`."""
MAMBA: Final = ("Mamba", "BambaMixer", "FalconH1Mixer")
"""Lists parts of the class names of blocks that read a layer's weight and do not call the layer, on the CPU or in a
CUDA kernel."""
READ: Final = ("out_proj", "dt_proj")
"""Lists the names of these layers."""


def target_modules(model: PreTrainedModel, adapter: AdapterSpec) -> str | list[str]:
    """Return the adapter's targets for PEFT. `all-linear` becomes a list where it leaves layers out: of name endings
    where they distinguish the layers from all other modules."""
    if adapter.target_modules != "all-linear":
        return adapter.target_modules
    head = model.get_output_embeddings()
    modules = dict(model.named_modules())
    linear = {name for name, each in modules.items() if isinstance(each, nn.Linear | Conv1D) and each is not head}
    # A router returns more than a product: Llama 4's.
    routers = {name for name in linear if type(modules[name]).__name__.endswith("Router")}
    left_out = linear & (routers | layers_read(model))
    return _shortened(linear - left_out, modules) if left_out else "all-linear"


def layers_read(model: nn.Module) -> set[str]:
    """Return the layers whose weights the model reads directly: an adapter there learns nothing, and NF4 would be
    misread."""
    modules = dict(model.named_modules())
    config = getattr(model, "config", None)
    found = set()
    for name in modules:
        parent, _, last = name.rpartition(".")
        in_mamba = any(part in type(modules[parent]).__name__ for part in MAMBA)
        is_refused = last == "out_proj" and getattr(config, "model_type", None) in REFUSED
        if is_refused or (in_mamba and last in READ):
            found.add(name)
    return found


def _shortened(taken: set[str], modules: dict[str, nn.Module]) -> list[str]:
    others = {name.rpartition(".")[2] for name in modules.keys() - taken}
    endings = ((name, name.rpartition(".")[2]) for name in taken)
    return sorted({name if last in others else last for name, last in endings})

"""Finds the weights of linear layers among a model's tensors by their names and shapes alone."""

import re
from collections.abc import Iterable

from app.models.headers import Shape, Shapes

NOT_LINEAR = re.compile(
    r"wte|wpe|shared|.*embed.*|.*embd.*|relative_attention_bias|lm_head|score|classifier|.*norm.*|ln_.*|gate|router"
)
"""Matches the last part of the names of modules that are not linear: embeddings, the head (which PEFT's `all-linear`
also leaves out), norms, and the routers of mixtures of experts, which are not linear layers in transformers."""
EXPERT = re.compile(r"(.*\.)?experts\.\d+\..*")
"""Matches one expert of a mixture. The checkpoint stores it separately; transformers 5 loads all experts of a layer
into one parameter."""
BUFFER = re.compile(r".*\.(masked_bias|inv_freq)")
PREFIXES = {"gpt2": "transformer.", "bloom": "transformer."}
"""Gives the prefix of the model's module names that old checkpoints of these types leave out."""


def is_buffer(name: str, shape: Shape) -> bool:
    """Return whether the tensor is a buffer, not a parameter. GPT-2's causal masks are named like biases, but are not
    vectors."""
    return bool(BUFFER.fullmatch(name)) or (name.endswith(".bias") and len(shape.sizes) > 1)


def linear_modules(shapes: Shapes, model_type: str) -> list[str]:
    """Return the full names of the modules with a 2-D weight, without embeddings and head. GPT-2's Conv1D counts as
    linear."""
    names = [
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape.sizes) == 2
    ]
    prefix = PREFIXES.get(model_type, "")
    return sorted(
        name if name.startswith(prefix) else prefix + name
        for name in names
        if not NOT_LINEAR.fullmatch(name.rsplit(".", 1)[-1]) and not EXPERT.fullmatch(name)
    )


def unmatched_targets(linear_modules: Iterable[str], target_modules: Iterable[str]) -> list[str]:
    """Return the targets that name no module. PEFT's rule: a target is a module's whole name or its ending after a
    dot."""
    endings: set[str] = set()
    for module in linear_modules:
        parts = module.split(".")
        endings.update(".".join(parts[start:]) for start in range(len(parts)))
    return [target for target in target_modules if target not in endings]

"""Initializes an adapter: by its init, or with another adapter's weights.

The default is PEFT's and is set when the adapter is created. The others follow, before the first forward. They draw
from the job's seed and leave the training's random state unchanged. A resumed training finds A and B in its checkpoint;
only the base weights that PiSSA and OLoRA rewrite are rewritten again, from the same weights and seed.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora.layer import LoraLayer
from safetensors.torch import load_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from app.domain.jobs.state import FailureReason
from app.domain.jobs.training_config import BASE_REWRITING_INITS, AdapterSpec
from worker.training.data.packing import Example
from worker.training.model.eva import main_components
from worker.training.model.loading import Model
from worker.training.ops.nf4 import dense_weight
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest

NAME = "default"
"""Is PEFT's name for the only adapter."""
POWER_ITERATIONS = 16
"""Counts the power iterations of the randomized SVD. PiSSA's authors find 16 as good as the exact SVD, which takes many
times as long."""


def start_adapter(model: Model, request: TrainingRequest, rows: Iterable[Example]) -> None:
    adapter, peft = request.spec.adapter, model.peft
    if adapter is None or peft is None:
        return
    resumes = request.checkpoint_path is not None
    with _drawing_from(request.spec.training.seed, model.plan.device), torch.no_grad():
        if adapter.init in BASE_REWRITING_INITS:
            _refuse_rank(peft, adapter)
            rewrite_base(peft, _pissa if adapter.init == "pissa" else _olora)
            model.initial_adapter = adapter_weights(peft)
        elif adapter.init == "gaussian" and not resumes:
            _gaussian(peft)
        elif adapter.init == "eva" and not resumes:
            for layer, components in main_components(model.causal, lora_layers(peft), adapter.rank, rows).items():
                layer.lora_A[NAME].weight[: len(components)] = components
        if request.spec.init_from is not None and not resumes:
            assert request.init_from_path is not None
            load_adapter(peft, adapter, request.init_from_path)


def lora_layers(peft: PeftModel) -> list[LoraLayer]:
    return [module for module in peft.modules() if isinstance(module, LoraLayer)]


def adapter_weights(peft: PeftModel) -> dict[str, Tensor]:
    """Return copies of A and B by the names of PEFT's file."""
    weights = get_peft_model_state_dict(peft, save_embedding_layers=False)
    return {name: weight.clone() for name, weight in weights.items() if "lora_A" in name or "lora_B" in name}


def rewrite_base(peft: PeftModel, factors: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> None:
    """Split each weight W into the result of `factors` (B, A of a rank) and the rest, which becomes the frozen weight:
    W = rest + s·B·A up to the rest's rounding. No more than one weight is in fp32 at a time."""
    for layer in lora_layers(peft):
        base, scaling = layer.get_base_layer(), layer.scaling[NAME]
        weight = dense_weight(base).float()
        b, a = factors(weight, layer.r[NAME])
        layer.lora_A[NAME].weight.copy_(a / scaling**0.5)
        layer.lora_B[NAME].weight.copy_(b / scaling**0.5)
        rest = torch.addmm(weight, layer.lora_B[NAME].weight, layer.lora_A[NAME].weight, alpha=-scaling)
        base.weight.copy_(rest.T if isinstance(base, Conv1D) else rest)


def _pissa(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return B, A: the first singular triples, each factor with the root of the values (PiSSA, arXiv 2404.02948)."""
    u, values, v = torch.svd_lowrank(weight, q=min(2 * rank, *weight.shape), niter=POWER_ITERATIONS)
    roots = values[:rank].sqrt()
    return u[:, :rank] * roots, (v[:, :rank] * roots).T


def _olora(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return B, A: the first columns of Q and rows of R of the weight's QR decomposition (OLoRA, arXiv 2406.01775)."""
    q, r = torch.linalg.qr(weight)
    return q[:, :rank], r[:rank]


def _gaussian(peft: PeftModel) -> None:
    """Draw A from N(0, 1/rank²) on the CPU, so that every device starts with the same values."""
    for layer in lora_layers(peft):
        weight = layer.lora_A[NAME].weight
        weight.copy_(torch.empty(weight.shape).normal_(std=1 / layer.r[NAME]))


def load_adapter(peft: PeftModel, adapter: AdapterSpec, folder: Path) -> None:
    """Load another adapter's weights. Raises TrainingFailed if it has another shape."""
    config = json.loads((folder / "adapter_config.json").read_text())
    names = {"rank": "r", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora", "use_dora": "use_dora"}
    found = {ours: config[pefts] for ours, pefts in names.items()}
    wanted = {name: getattr(adapter, name) for name in found}
    weights = load_file(folder / "adapter_model.safetensors")
    own = get_peft_model_state_dict(peft, save_embedding_layers=False)
    fits = {name: weight.shape for name, weight in own.items()} == {name: each.shape for name, each in weights.items()}
    if found != wanted or not fits:
        raise TrainingFailed(
            FailureReason.model_unusable,
            "The adapter of init_from has a different shape. Set the same rank, alpha, target_modules, use_rslora and "
            "use_dora, and the base model that it was trained on.",
        )
    set_peft_model_state_dict(peft, weights)


def _refuse_rank(peft: PeftModel, adapter: AdapterSpec) -> None:
    least = min(min(dense_weight(layer.get_base_layer()).shape) for layer in lora_layers(peft))
    if adapter.rank > least:
        raise TrainingFailed(
            FailureReason.model_unusable,
            f'The init "{adapter.init}" needs a rank of at most {least}, the rank of the smallest base weight. Lower '
            f"the adapter's rank from {adapter.rank}, or choose another init.",
        )


@contextmanager
def _drawing_from(seed: int, device: str) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device == "cuda" else []):
        torch.manual_seed(seed)
        yield

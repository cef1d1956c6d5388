"""Resumable state at a step: safetensors and JSON, and whole or not there at all."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

VERSION = 1


@dataclass
class Position:
    """Where a run stands. `losses` are the first and the latest step's."""

    step: int = 0
    num_tokens: int = 0
    first_loss: float | None = None
    last_loss: float | None = None


def write_checkpoint(
    root: Path,
    position: Position,
    trainable: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    fingerprint: dict[str, Any],
) -> Path:
    """Under a temporary name first: a folder with its final name is complete and on disk."""
    final = root / f"step-{position.step:08d}"
    partial = root / f".partial-{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = {name: parameter.detach().contiguous() for name, parameter in trainable.items()}
    save_file(weights, partial / "trainable.safetensors")
    save_file(_optimizer_tensors(trainable, optimizer), partial / "optimizer.safetensors")
    save_file(_random_states(), partial / "random.safetensors")
    state = {
        "version": VERSION,
        "position": vars(position),
        "grad_scaler": scaler.state_dict(),
        "fingerprint": fingerprint,
    }
    (partial / "state.json").write_text(json.dumps(state, indent=1))
    sync_folder(partial)
    partial.rename(final)
    _sync(root)
    return final


def read_checkpoint(
    folder: Path, trainable: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> tuple[Position, dict[str, Any]]:
    """Put the state back; returns the position and the fingerprint it was written with."""
    state = json.loads((folder / "state.json").read_text())
    weights = load_file(folder / "trainable.safetensors")
    if weights.keys() != trainable.keys():
        raise ValueError(f"The checkpoint {folder} belongs to another model or adapter.")
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(weights[name])
    moments = load_file(folder / "optimizer.safetensors")
    for name, parameter in trainable.items():
        optimizer.state[parameter] = {
            key: moments[f"{name}:{key}"].to(parameter.device) for key in ("step", "exp_avg", "exp_avg_sq")
        }
    scaler.load_state_dict(state["grad_scaler"])
    _restore_random_states(load_file(folder / "random.safetensors"))
    return Position(**state["position"]), state["fingerprint"]


def read_position(folder: Path) -> Position:
    return Position(**json.loads((folder / "state.json").read_text())["position"])


def sync_folder(folder: Path) -> None:
    """Every file below, and the folder itself, on disk."""
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _optimizer_tensors(trainable: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}:{key}": value
        for name, parameter in trainable.items()
        for key, value in optimizer.state[parameter].items()
    }


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

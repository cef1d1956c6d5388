"""Resumable state at a step: a folder of safetensors and JSON that needs nothing beside it.

| file | holds |
| --- | --- |
| adapter_model.safetensors, adapter_config.json | the trained adapter, in PEFT's format |
| trainable.safetensors | the trained weights of a full fine-tune |
| optimizer.safetensors | every tensor of the optimizer's state, as `parameter:key` |
| random.safetensors | the random generators' states |
| rows.safetensors | each training row's latest loss |
| references.safetensors | for `dpo`: each pair's log-probabilities when the job began; see `dpo_reference` |
| best.safetensors | the weights of the best evaluation, unless these are this step's own |
| state.json | position, evaluations, gradient scaler, the optimizer's other values, fingerprint |
| manifest.json | size and SHA-256 of all the others |
"""

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from app.domain.jobs.resuming import InexactResume
from app.domain.jobs.state import FailureReason
from app.failpoints import around
from app.files import sync, sync_folder
from worker.training.checkpoint.manifest import digests, first_fault
from worker.training.checkpoint.optimizer_state import as_kept_by
from worker.training.checkpoint.tensor_file import write_tensors
from worker.training.checkpoint.train_state import Evaluations
from worker.training.model.adapter_file import WEIGHTS as ADAPTER
from worker.training.model.adapter_file import AdapterFile
from worker.training.runtime.errors import TrainingFailed

VERSION: Final = 3
COPIED_BYTES: Final = 2**30
"""State of this size or less is copied before it is written. More is a full fine-tune's, of which a copy might not fit
into the host's memory: it is written tensor by tensor, from a GPU as well, and training waits for the disk."""
SPARED_BYTES: Final = 2 * 2**20
"""Of the disk space, beside the tensors: for their names, for the log and for metric points that wait."""

Weights = dict[str, Tensor]


@dataclass
class Position:
    """Where a run stands; `step` is its place in rows and schedule alike. `losses` are the first and latest step's."""

    step: int = 0
    num_tokens: int = 0
    first_loss: float | None = None
    last_loss: float | None = None


@dataclass
class TrainState:
    """What training changes."""

    trainable: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    position: Position
    evaluations: Evaluations
    row_losses: Tensor
    """Of each training row the mean loss when it was last trained on; see `row_losses`."""
    best_weights: Weights | None = None
    """Of the best evaluation, on the CPU; null before the first one and where the last step is the result."""
    adapter: AdapterFile | None = None
    """Null for a full fine-tune."""
    references: dict[str, Tensor] = field(default_factory=dict)
    """Of the rows' `Examples.references`, whose own memory they are; see `dpo_reference`."""
    inexact_resumes: list[InexactResume] = field(default_factory=list)

    @property
    def device(self) -> str:
        return next(iter(self.trainable.values())).device.type


@dataclass(frozen=True)
class Snapshot:
    """A copy of a train state."""

    step: int
    is_copy: bool
    """Else it is the train state's own memory, to be written before the next step."""
    tensors: dict[str, dict[str, Tensor]]
    """By the file they go to."""
    state: dict[str, Any]
    adapter: AdapterFile | None = None

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensors in self.tensors.values() for tensor in tensors.values())


@dataclass(frozen=True)
class Checkpoint:
    """One that was read, whole and as it was written."""

    folder: Path
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]

    @property
    def fingerprint(self) -> dict[str, Any]:
        found: dict[str, Any] = self.state["fingerprint"]
        return found


def take_snapshot(train_state: TrainState, fingerprint: dict[str, Any]) -> Snapshot:
    """Copies in memory, so that training can go on while they are written, unless they are too large."""
    moments, values = _optimizer_state(train_state)
    is_copy = sum(tensor.nbytes for tensor in (*train_state.trainable.values(), *moments.values())) <= COPIED_BYTES
    adapter = train_state.adapter
    weights: Weights = {**train_state.trainable}
    if is_copy or adapter is not None:
        weights = on_cpu(train_state.trainable)
    tensors = {
        **({"trainable": weights} if adapter is None else {ADAPTER: adapter.to_file(weights)}),
        "optimizer": on_cpu(moments) if is_copy else moments,
        "random": random_states(train_state.device),
        "rows": on_cpu({"losses": train_state.row_losses}, copy=is_copy),
    }
    if train_state.references:
        tensors["references"] = train_state.references  # they never change once steps are taken
    best = train_state.evaluations.best
    if train_state.best_weights is not None and best is not None and best.step != train_state.position.step:
        tensors["best"] = train_state.best_weights  # replaced by a better one's, but never changed
    state = {
        "version": VERSION,
        "position": asdict(train_state.position),
        "evaluations": train_state.evaluations.to_json(),
        "grad_scaler": train_state.scaler.state_dict(),
        "optimizer": values,
        "fingerprint": fingerprint,
        "inexact_resumes": [each.model_dump(mode="json") for each in train_state.inexact_resumes],
    }
    return Snapshot(train_state.position.step, is_copy, tensors, state, adapter)


def write_checkpoint(root: Path, snapshot: Snapshot) -> Path:
    """Under a temporary name first: a folder with its final name is whole and on disk. OSError or SafetensorError if
    it cannot be written, before anything is if the disk is too small for it; nothing is left then."""
    final = root / f"step-{snapshot.step:08d}"
    partial = root / f".partial-{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        require_disk_space(root, snapshot.num_bytes + SPARED_BYTES)
        for name, tensors in snapshot.tensors.items():
            write_tensors(partial / f"{name}.safetensors", tensors)
        if snapshot.adapter is not None:
            snapshot.adapter.write_config(partial)
        _write_json(partial / "state.json", snapshot.state)
        _write_json(partial / "manifest.json", {"manifest_version": 1, "files": digests(partial)})
        sync_folder(partial)
        with around("name_checkpoint"):
            partial.rename(final)
    except (OSError, SafetensorError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync(root)
    return final


def require_disk_space(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(errno.ENOSPC, f"it takes {num_bytes / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free")


def read_checkpoint(folder: Path) -> Checkpoint:
    """TrainingFailed if it is not, byte for byte, what was written, or was written in another format."""
    try:
        fault = first_fault(folder, json.loads((folder / "manifest.json").read_text())["files"])
        if fault is None:
            state = json.loads((folder / "state.json").read_text())
            if state["version"] == VERSION:
                return Checkpoint(folder, state, {path.stem: load_file(path) for path in folder.glob("*.safetensors")})
            fault = f"it is of format {state['version']}, and this release reads {VERSION}"
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        fault = f"{type(error).__name__}: {error}"
    raise unusable(folder, fault)


def restore(checkpoint: Checkpoint, train_state: TrainState) -> None:
    """Put everything back as it was; TrainingFailed if it belongs to another model or adapter."""
    weights = _weights(checkpoint, train_state)
    load_weights(train_state.trainable, weights)
    _restore_optimizer(checkpoint, train_state)
    if checkpoint.state["grad_scaler"]:  # else it was off, and one that is on now begins anew
        train_state.scaler.load_state_dict(checkpoint.state["grad_scaler"])
    train_state.position = Position(**checkpoint.state["position"])
    train_state.evaluations = Evaluations.of_json(checkpoint.state["evaluations"])
    best = train_state.evaluations.best
    own = weights if best is not None and best.step == train_state.position.step else None
    train_state.best_weights = checkpoint.tensors.get("best", own)
    losses = checkpoint.tensors["rows"]["losses"]
    if losses.shape == train_state.row_losses.shape:  # a retry may cut rows elsewhere, and then drop others
        train_state.row_losses = losses.clone()
    _restore_references(checkpoint, train_state.references)
    restore_random_states(checkpoint.tensors["random"], train_state.device)


def _weights(checkpoint: Checkpoint, train_state: TrainState) -> Weights:
    """By parameter."""
    tensors, adapter = checkpoint.tensors, train_state.adapter
    try:
        weights = tensors["trainable"] if adapter is None else adapter.from_file(tensors[ADAPTER])
    except (KeyError, ValueError):
        weights = {}
    if weights.keys() != train_state.trainable.keys():
        raise unusable(checkpoint.folder, "it belongs to another model or adapter")
    return weights


def _restore_references(checkpoint: Checkpoint, references: dict[str, Tensor]) -> None:
    """They cannot be computed again: the policy that they are of is gone."""
    kept = checkpoint.tensors.get("references", {})
    for name, tensor in references.items():
        if name not in kept or kept[name].shape != tensor.shape:
            raise unusable(checkpoint.folder, f"it lacks the reference of this job's {name} rows")
        tensor.copy_(kept[name])


def read_fingerprint(folder: Path) -> dict[str, Any]:
    """TrainingFailed if the folder is no checkpoint; its other files are not looked at."""
    try:
        found: dict[str, Any] = json.loads((folder / "state.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError) as error:
        raise unusable(folder, f"{type(error).__name__}: {error}") from error
    return found


def read_position(folder: Path) -> Position:
    return Position(**json.loads((folder / "state.json").read_text())["position"])


def load_weights(parameters: dict[str, nn.Parameter], weights: Weights) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def on_cpu(tensors: Mapping[str, Tensor], *, copy: bool = True) -> Weights:
    return {name: tensor.detach().to("cpu", copy=copy).contiguous() for name, tensor in tensors.items()}


def unusable(folder: Path, why: str) -> TrainingFailed:
    return TrainingFailed(
        FailureReason.checkpoint_unusable,
        f"The checkpoint {folder.name} cannot be used: {why}. Post the job anew.",
    )


def _optimizer_state(train_state: TrainState) -> tuple[Weights, dict[str, Any]]:
    """Whatever tensors the optimizer keeps, and whatever else (an 8-bit one counts its steps in an int)."""
    tensors: Weights = {}
    values: dict[str, Any] = {}
    for name, parameter in train_state.trainable.items():
        for key, value in train_state.optimizer.state[parameter].items():
            (tensors if isinstance(value, Tensor) else values)[f"{name}:{key}"] = value
    return tensors, values


def _restore_optimizer(checkpoint: Checkpoint, train_state: TrainState) -> None:
    """Through its own `load_state_dict`, which knows the device and type of each of its tensors. Another kind of AdamW
    may have written it, on another device."""
    state: dict[str, dict[str, Any]] = {name: {} for name in train_state.trainable}
    for key, value in (checkpoint.tensors["optimizer"] | checkpoint.state["optimizer"]).items():
        name, _, part = key.rpartition(":")
        if isinstance(value, Tensor) and train_state.device == "cpu":
            value = value.clone()  # not the file's own memory
        state[name][part] = value
    names = {id(parameter): name for name, parameter in train_state.trainable.items()}
    parameters = [parameter for group in train_state.optimizer.param_groups for parameter in group["params"]]
    kept = [as_kept_by(train_state.optimizer, state[names[id(parameter)]]) for parameter in parameters]
    groups = train_state.optimizer.state_dict()["param_groups"]
    train_state.optimizer.load_state_dict({"state": dict(enumerate(kept)), "param_groups": groups})


def random_states(device: str) -> Weights:
    """Of the generators that a training on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states: Weights, device: str) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device == "cuda":
        torch.cuda.set_rng_state(states["cuda"])


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")

"""Stores resumable state at a step: a folder of safetensors and JSON that needs no other file.

| file | holds |
| --- | --- |
| adapter_model.safetensors, adapter_config.json | the trained adapter, in PEFT's format |
| trainable.safetensors | the trained weights of a full fine-tune |
| optimizer.safetensors | every tensor of the optimizer's state, as `parameter:key` |
| random.safetensors | the random generators' states |
| rows.safetensors | each training row's latest loss |
| references.safetensors | for `dpo`: each pair's log-probabilities when the job began; see `dpo_reference` |
| best.safetensors | the weights of the best evaluation, unless they are this step's weights |
| state.json | position, evaluations, gradient scaler, the optimizer's other values, fingerprint |
| manifest.json | size and SHA-256 of all other files |
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
from worker.training.checkpoint.optimizer_state import convert_state
from worker.training.checkpoint.tensor_file import write_tensors
from worker.training.checkpoint.train_state import Evaluations
from worker.training.model.adapter_file import WEIGHTS as ADAPTER
from worker.training.model.adapter_file import AdapterConverter
from worker.training.runtime.errors import TrainingFailed

VERSION: Final = 3
COPIED_BYTES: Final = 2**30
"""Is the largest state that is copied before it is written. A larger state belongs to a full fine-tune, and a copy
might not fit into the host's memory: it is written tensor by tensor, from a GPU as well, and training waits for the
disk."""
SPARED_BYTES: Final = 2 * 2**20
"""Is the disk space required in addition to the tensors: for their names, the log and waiting metric points."""

Weights = dict[str, Tensor]


@dataclass
class Position:
    """Records the progress of a training. `step` is its position in rows and schedule alike. `losses` are the first and
    latest step's."""

    step: int = 0
    num_tokens: int = 0
    first_loss: float | None = None
    last_loss: float | None = None


@dataclass
class TrainState:
    """Holds everything that training changes."""

    trainable: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    position: Position
    evaluations: Evaluations
    row_losses: Tensor
    """Holds each training row's mean loss when it was last trained on; see `row_losses`."""
    best_weights: Weights | None = None
    """Holds the best evaluation's weights, on the CPU. Null before the first evaluation, and where the last step is the
    result."""
    adapter: AdapterConverter | None = None
    """Is null for a full fine-tune."""
    references: dict[str, Tensor] = field(default_factory=dict)
    """Holds the rows' `Examples.references`, and shares their memory; see `dpo_reference`."""
    inexact_resumes: list[InexactResume] = field(default_factory=list)

    @property
    def device(self) -> str:
        return next(iter(self.trainable.values())).device.type


@dataclass(frozen=True)
class Snapshot:
    """Holds a train state for writing."""

    step: int
    is_copy: bool
    """Says whether the tensors are copies. If not, they are the train state's memory and must be written before the
    next step."""
    tensors: dict[str, dict[str, Tensor]]
    """Holds the tensors by the file that they go to."""
    state: dict[str, Any]
    adapter: AdapterConverter | None = None

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensors in self.tensors.values() for tensor in tensors.values())


@dataclass(frozen=True)
class LoadedCheckpoint:
    """Holds a checkpoint that was read and verified."""

    folder: Path
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]

    @property
    def fingerprint(self) -> dict[str, Any]:
        found: dict[str, Any] = self.state["fingerprint"]
        return found


def take_snapshot(train_state: TrainState, fingerprint: dict[str, Any]) -> Snapshot:
    """Copy the state in memory, so that training continues while it is written, unless the state is too large."""
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
        tensors["references"] = train_state.references  # they never change after the first step
    best = train_state.evaluations.best
    if train_state.best_weights is not None and best is not None and best.step != train_state.position.step:
        tensors["best"] = train_state.best_weights  # a better evaluation replaces them but never changes them
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
    """Write a checkpoint, first under a temporary name: a folder with its final name is whole and on disk. Raises
    OSError or SafetensorError if it cannot be written, and before any write if the disk space is too small. In either
    case no file is left."""
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
        raise OSError(errno.ENOSPC, f"{num_bytes / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free")


def read_checkpoint(folder: Path) -> LoadedCheckpoint:
    """Read a checkpoint. Raises TrainingFailed if its bytes are not those written, or its format is another."""
    try:
        fault = first_fault(folder, json.loads((folder / "manifest.json").read_text())["files"])
        if fault is None:
            state = json.loads((folder / "state.json").read_text())
            if state["version"] == VERSION:
                return LoadedCheckpoint(
                    folder, state, {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
                )
            fault = f"it has format {state['version']}, and this release reads format {VERSION}"
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        fault = f"{type(error).__name__}: {error}"
    raise make_unusable_error(folder, fault)


def restore(checkpoint: LoadedCheckpoint, train_state: TrainState) -> None:
    """Restore the train state. Raises TrainingFailed if the checkpoint belongs to another model or adapter."""
    weights = _weights(checkpoint, train_state)
    load_weights(train_state.trainable, weights)
    _restore_optimizer(checkpoint, train_state)
    if checkpoint.state["grad_scaler"]:  # otherwise it was off, and one that is on now starts fresh
        train_state.scaler.load_state_dict(checkpoint.state["grad_scaler"])
    train_state.position = Position(**checkpoint.state["position"])
    train_state.evaluations = Evaluations.of_json(checkpoint.state["evaluations"])
    best = train_state.evaluations.best
    own = weights if best is not None and best.step == train_state.position.step else None
    train_state.best_weights = checkpoint.tensors.get("best", own)
    losses = checkpoint.tensors["rows"]["losses"]
    if losses.shape == train_state.row_losses.shape:  # a retry may truncate rows elsewhere, and then drop others
        train_state.row_losses = losses.clone()
    _restore_references(checkpoint, train_state.references)
    restore_random_states(checkpoint.tensors["random"], train_state.device)


def _weights(checkpoint: LoadedCheckpoint, train_state: TrainState) -> Weights:
    """Return the weights by parameter."""
    tensors, adapter = checkpoint.tensors, train_state.adapter
    try:
        weights = tensors["trainable"] if adapter is None else adapter.from_file(tensors[ADAPTER])
    except (KeyError, ValueError):
        weights = {}
    if weights.keys() != train_state.trainable.keys():
        raise make_unusable_error(checkpoint.folder, "it was written for a different model or adapter")
    return weights


def _restore_references(checkpoint: LoadedCheckpoint, references: dict[str, Tensor]) -> None:
    """Restore the references. They cannot be computed again: training has changed the policy that they describe."""
    kept = checkpoint.tensors.get("references", {})
    for name, tensor in references.items():
        if name not in kept or kept[name].shape != tensor.shape:
            raise make_unusable_error(checkpoint.folder, f"it has no DPO reference for this job's {name} rows")
        tensor.copy_(kept[name])


def read_fingerprint(folder: Path) -> dict[str, Any]:
    """Read the fingerprint. Raises TrainingFailed if the folder is no checkpoint. The other files are not read."""
    try:
        found: dict[str, Any] = json.loads((folder / "state.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError) as error:
        raise make_unusable_error(folder, f"{type(error).__name__}: {error}") from error
    return found


def read_position(folder: Path) -> Position:
    return Position(**json.loads((folder / "state.json").read_text())["position"])


def load_weights(parameters: dict[str, nn.Parameter], weights: Weights) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def on_cpu(tensors: Mapping[str, Tensor], *, copy: bool = True) -> Weights:
    return {name: tensor.detach().to("cpu", copy=copy).contiguous() for name, tensor in tensors.items()}


def make_unusable_error(folder: Path, why: str) -> TrainingFailed:
    return TrainingFailed(
        FailureReason.checkpoint_unusable,
        f"The checkpoint {folder.name} cannot be used: {why}. Create the job again.",
    )


def _optimizer_state(train_state: TrainState) -> tuple[Weights, dict[str, Any]]:
    """Split the optimizer's state into tensors and other values (an 8-bit optimizer counts its steps in an int)."""
    tensors: Weights = {}
    values: dict[str, Any] = {}
    for name, parameter in train_state.trainable.items():
        for key, value in train_state.optimizer.state[parameter].items():
            (tensors if isinstance(value, Tensor) else values)[f"{name}:{key}"] = value
    return tensors, values


def _restore_optimizer(checkpoint: LoadedCheckpoint, train_state: TrainState) -> None:
    """Restore through the optimizer's `load_state_dict`, which knows the device and type of each tensor. The state may
    come from another kind of AdamW on another device."""
    state: dict[str, dict[str, Any]] = {name: {} for name in train_state.trainable}
    for key, value in (checkpoint.tensors["optimizer"] | checkpoint.state["optimizer"]).items():
        name, _, part = key.rpartition(":")
        if isinstance(value, Tensor) and train_state.device == "cpu":
            value = value.clone()  # does not share the file's memory
        state[name][part] = value
    names = {id(parameter): name for name, parameter in train_state.trainable.items()}
    parameters = [parameter for group in train_state.optimizer.param_groups for parameter in group["params"]]
    kept = [convert_state(train_state.optimizer, state[names[id(parameter)]]) for parameter in parameters]
    groups = train_state.optimizer.state_dict()["param_groups"]
    train_state.optimizer.load_state_dict({"state": dict(enumerate(kept)), "param_groups": groups})


def random_states(device: str) -> Weights:
    """Return the states of the generators that a training on `device` draws from."""
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

"""Tests a checkpoint's folder: whole, self-contained and written concurrently with the training. Damaged ones are
refused.
"""

import hashlib
import json
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from torch import nn

from app.domain.jobs.state import FailureReason
from tests.unit.training.conftest import Recorder, make_spec
from worker.training.checkpoint import checkpoint
from worker.training.checkpoint.best_weights import hold_weights
from worker.training.checkpoint.checkpoint import (
    Position,
    TrainState,
    read_checkpoint,
    restore,
    take_snapshot,
    write_checkpoint,
)
from worker.training.checkpoint.manifest import digests
from worker.training.checkpoint.train_state import Evaluations
from worker.training.data.row_losses import make_unknown_losses
from worker.training.loop.training_loop import prepare, train
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import (
    CheckpointWritten,
    EventMessage,
    Finished,
    MetricsMessage,
    Stopped,
    TrainingMessage,
    TrainingRequest,
)

MakeRequest = Callable[..., TrainingRequest]


@pytest.fixture
def written(make_request: MakeRequest) -> Path:
    """Return the checkpoint at step 3. Its best evaluation is that of step 2."""
    channel = Recorder(stop_at=3)
    spec = make_spec(validation_split=0.2, training={"eval_every": 2})
    train(make_request(spec=spec), channel)
    return channel.checkpoints()[0].path


def test_it_is_written_every_save_every_steps_but_not_at_the_end(make_request: MakeRequest) -> None:
    channel = Recorder()
    request = make_request(spec=make_spec(training={"save_every": 2}))
    train(request, channel)
    folders = [request.work_dir / f"checkpoints/step-{step:08d}" for step in (2, 4)]
    assert [(line.step, line.path) for line in channel.checkpoints()] == list(zip((2, 4), folders, strict=True))
    assert sorted((request.work_dir / "checkpoints").iterdir()) == folders
    assert not (folders[0] / "best.safetensors").exists(), "nothing was evaluated"


def test_the_manifest_names_every_other_file(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    contents = {path.name: path.read_bytes() for path in written.iterdir() if path.name != "manifest.json"}
    assert contents.keys() == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "random.safetensors",
        "rows.safetensors",
        "best.safetensors",
        "state.json",
    }
    assert manifest["files"] == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip_a_bit, cut, Path.unlink])
@pytest.mark.parametrize("part", ["adapter_model", "optimizer", "random", "best", "state", "manifest"])
def test_a_damaged_one_is_refused(
    damage: Callable[[Path], None], part: str, written: Path, make_request: MakeRequest, tmp_path: Path
) -> None:
    if (damage, part) == (cut, "manifest"):
        damage = lambda path: path.write_bytes(path.read_bytes()[:-10])  # noqa: E731 - its last byte is a newline
    (path,) = written.glob(f"{part}.*")
    damage(path)
    with pytest.raises(TrainingFailed, match="step-00000003 cannot be used") as caught:
        read_checkpoint(written)
    assert caught.value.reason is FailureReason.checkpoint_unusable


def test_one_of_another_format_is_refused(written: Path) -> None:
    state = json.loads((written / "state.json").read_text())
    rewrite(written, state | {"version": 1})
    with pytest.raises(TrainingFailed, match="it has format 1") as caught:
        read_checkpoint(written)
    assert caught.value.reason is FailureReason.checkpoint_unusable


def rewrite(folder: Path, state: dict[str, Any]) -> None:
    """Replace `state.json`, and update the manifest."""
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps({"files": digests(folder)}))


def test_one_of_another_adapter_is_refused(written: Path, make_request: MakeRequest, tmp_path: Path) -> None:
    run = prepare(make_request(spec=make_spec(adapter={"target_modules": ["q_proj"]})), Recorder())
    with pytest.raises(TrainingFailed, match="a different model or adapter"):
        restore(read_checkpoint(written), run.state)


def test_later_steps_do_not_change_a_snapshot(make_request: MakeRequest) -> None:
    run = prepare(make_request(), Recorder())
    run._step()
    snapshot = take_snapshot(run.state, {})
    before = {part: {key: value.clone() for key, value in held.items()} for part, held in snapshot.tensors.items()}
    state = json.dumps(snapshot.state)
    run._step()
    assert json.dumps(snapshot.state) == state
    for part, held in snapshot.tensors.items():
        assert all(value.equal(before[part][key]) for key, value in held.items()), part


class SlowDisk(Recorder):
    """Blocks the writer until step 4 is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = threading.Event()

    def send(self, message: TrainingMessage) -> None:
        if isinstance(message, CheckpointWritten) and message.step == 2:
            assert self.taken.wait(30), "training waited for the disk"
        super().send(message)
        if isinstance(message, MetricsMessage) and message.step == 4:
            self.taken.set()


def test_training_continues_during_a_write_and_waits_before_the_next(make_request: MakeRequest) -> None:
    channel = SlowDisk()
    train(make_request(spec=make_spec(training={"save_every": 2})), channel)
    steps = [line.step for line in channel.lines if isinstance(line, MetricsMessage | CheckpointWritten)]
    assert steps.index(2, steps.index(2) + 1) > steps.index(4), "must be reported after step 4"
    assert [line.step for line in channel.checkpoints()] == [2, 4]
    assert isinstance(channel.lines[-1], Finished)


def test_state_too_large_to_copy_is_written_before_the_next_step(
    make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec("full", training={"save_every": 2})
    copied, held = Recorder(), Recorder()
    train(make_request(spec=spec, work_dir=tmp_path / "copied"), copied)
    monkeypatch.setattr(checkpoint, "COPIED_BYTES", 10_000)
    train(make_request(spec=spec, work_dir=tmp_path / "held"), held)
    steps = [line.step for line in held.lines if isinstance(line, MetricsMessage | CheckpointWritten)]
    assert steps == [1, 2, 2, 3, 4, 4, 5, 6]
    for one, other in zip(copied.checkpoints(), held.checkpoints(), strict=True):
        for name in ("trainable.safetensors", "optimizer.safetensors", "random.safetensors"):
            assert (one.path / name).read_bytes() == (other.path / name).read_bytes()


def test_large_state_of_a_gpu_is_not_copied_into_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use tensors without numbers as a GPU's: copying one raises."""
    monkeypatch.setattr(checkpoint, "COPIED_BYTES", 10_000)
    parameter = nn.Parameter(torch.empty(64, 64, device="meta"))
    optimizer = torch.optim.AdamW([parameter])
    optimizer.state[parameter] = {name: torch.empty(64, 64, device="meta") for name in ("exp_avg", "exp_avg_sq")}
    train_state = TrainState(
        {"w": parameter}, optimizer, torch.amp.GradScaler("cpu"), Position(), Evaluations(), make_unknown_losses(1)
    )
    snapshot = take_snapshot(train_state, {})
    assert not snapshot.is_copy
    assert snapshot.tensors["trainable"]["w"] is parameter
    assert snapshot.tensors["optimizer"]["w:exp_avg"] is optimizer.state[parameter]["exp_avg"]
    assert snapshot.num_bytes > 3 * parameter.nbytes


def test_best_weights_too_large_for_memory_are_mapped_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = {"w": nn.Parameter(torch.randn(300, 300)), "b": nn.Parameter(torch.randn(3))}
    expected = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    copied = hold_weights(trainable, tmp_path)
    monkeypatch.setattr(checkpoint, "COPIED_BYTES", 10_000)
    mapped = hold_weights(trainable, tmp_path)
    with files_limited_to(64 * 1024):
        fallen_back = hold_weights(trainable, tmp_path)
    with torch.no_grad():
        trainable["w"].zero_()
    for held in (copied, mapped, fallen_back):
        assert held.keys() == expected.keys()
        assert all(held[name].equal(expected[name]) for name in expected)
    assert list(tmp_path.iterdir()) == []
    is_mapped = f"{tmp_path}/best.safetensors (deleted)" in Path("/proc/self/maps").read_text()
    assert is_mapped
    del mapped, held
    assert f"{tmp_path}/best.safetensors" not in Path("/proc/self/maps").read_text()


@contextmanager
def files_limited_to(num_bytes: int) -> Iterator[None]:
    """Limit the size of files, which has the effect of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(make_request: MakeRequest) -> None:
    channel = Recorder(stop_at=4)
    request = make_request(spec=make_spec(training={"save_every": 2}))
    with files_limited_to(64 * 1024):
        train(request, channel)
    assert channel.checkpoints() == []
    assert [event.code for event in channel.events("warning_issued")] == [
        "checkpoint_failed"
    ] * 3  # the dry run's, and two steps'
    assert "Could not write the checkpoint at step 2 (" in channel.events("warning_issued")[1].detail
    assert channel.lines[-1] == Stopped(step=4)
    assert list((request.work_dir / "checkpoints").iterdir()) == []


def test_a_path_that_is_not_a_folder_loses_the_checkpoint_but_not_the_training(make_request: MakeRequest) -> None:
    channel = Recorder()
    request = make_request(spec=make_spec(training={"save_every": 4}))
    (request.work_dir / "checkpoints").touch()
    train(request, channel)
    assert channel.warnings() == {"checkpoint_failed"}
    assert isinstance(channel.lines[-1], Finished)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "fused AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1),
    "8-bit AdamW": lambda parameters: AdamW8bit(parameters, lr=0.1),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_any_optimizers_state_is_restored_bit_for_bit(
    make: Callable[[Any], torch.optim.Optimizer], tmp_path: Path
) -> None:
    """Restore tensors of any type and plain values, in groups whose order differs from that of the parameters."""

    def train_state() -> TrainState:
        torch.manual_seed(0)
        weights = {name: nn.Parameter(torch.randn(128, 64)) for name in ("a", "b", "c")}
        groups = [{"params": [weights["c"], weights["a"]]}, {"params": [weights["b"]]}]
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        return TrainState(weights, make(groups), scaler, Position(), Evaluations(), make_unknown_losses(2))

    def take_steps(train_state: TrainState, *seeds: int) -> None:
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            for parameter in train_state.trainable.values():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            train_state.optimizer.step()

    whole, first, second = train_state(), train_state(), train_state()
    take_steps(whole, 1, 2, 3, 4)
    take_steps(first, 1, 2)
    restore(read_checkpoint(write_checkpoint(tmp_path, take_snapshot(first, {}))), second)
    take_steps(second, 3, 4)
    for name, parameter in whole.trainable.items():
        assert parameter.equal(second.trainable[name])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Create a file system of 64 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


class Filler(Recorder):
    """Fills the disk almost completely after the first checkpoint, and frees it after a warning."""

    def __init__(self, disk: Path, left_bytes: int) -> None:
        super().__init__()
        self.disk, self.left_bytes = disk, left_bytes
        self.before: dict[str, bytes] = {}

    def send(self, message: TrainingMessage) -> None:
        super().send(message)
        if isinstance(message, CheckpointWritten) and not self.before:
            self.before = contents(message.path)
            (self.disk / "filler").write_bytes(bytes(shutil.disk_usage(self.disk).free - self.left_bytes))
        if isinstance(message, EventMessage) and message.event.type == "warning_issued":
            (self.disk / "filler").unlink()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_no_room_on_the_disk_costs_one_checkpoint_and_is_known_before_a_byte_is_written(
    small_disk: Path, make_request: MakeRequest
) -> None:
    channel = Filler(small_disk, left_bytes=checkpoint.SPARED_BYTES)
    work_dir = small_disk / "work"
    train(make_request(spec=make_spec(training={"save_every": 2, "max_steps": 8}), work_dir=work_dir), channel)
    assert [line.step for line in channel.checkpoints()] == [2, 6]
    [warned] = channel.events("warning_issued")
    assert warned.code == "checkpoint_failed"
    assert re.search(r"Could not write the checkpoint at step 4 \(.*[\d.]+ MB needed, 2.1 MB free\)", warned.detail)
    assert contents(channel.checkpoints()[0].path) == channel.before, "the previous one must stay"
    read_checkpoint(channel.checkpoints()[0].path)
    assert not list((work_dir / "checkpoints").glob(".partial-*"))
    assert isinstance(channel.lines[-1], Finished)

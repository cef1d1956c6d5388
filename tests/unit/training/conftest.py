"""Provides tiny models, requests for them, and a channel that records its messages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from app.domain.jobs.spec import JobSpec
from tests.fixtures.tiny_models import build_tiny_model, write_rows
from worker.training.runtime.channel import Channel
from worker.training.runtime.messages import (
    CheckpointWritten,
    EventMessage,
    MetricsMessage,
    TrainingMessage,
    TrainingRequest,
)

FP32 = {
    "resources": {"device": "cpu"},
    "training": {"gradient_checkpointing": False},
    "engine": {"compute_dtype": "float32", "micro_batch_tokens": 64},
}
"""Holds resolved settings of an earlier attempt: exact arithmetic, and micro-batches that split a step."""


class Recorder(Channel):
    """Records the messages instead of writing them, and requests a stop after a step if asked to."""

    def __init__(self, stop_at: int | None = None, why: Literal["drain", "cancel"] = "drain"):
        self.lines: list[TrainingMessage] = []
        self.stop_wish = None
        self._stop_at, self._why = stop_at, why

    def send(self, message: TrainingMessage) -> None:
        self.lines.append(message)
        if isinstance(message, MetricsMessage) and message.step == self._stop_at:
            self.stop_wish = self._why

    def losses(self) -> list[float]:
        return [
            line.values["loss"] for line in self.lines if isinstance(line, MetricsMessage) and "loss" in line.values
        ]

    def checkpoints(self) -> list[CheckpointWritten]:
        return [line for line in self.lines if isinstance(line, CheckpointWritten)]

    def events(self, type: str) -> list[Any]:
        return [line.event for line in self.lines if isinstance(line, EventMessage) and line.event.type == type]

    def warnings(self) -> set[str]:
        return {event.code for event in self.events("warning_issued")}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: tiny products do not get faster with a second one, and the other core may be busy."""
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore a warning: PEFT reads a property of transformers by its old name."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family's tiny model."""
    root = tmp_path_factory.mktemp("models")

    def folder_of(family: str) -> Path:
        folder = root / family
        return folder if folder.exists() else build_tiny_model(folder, family)

    return folder_of


def make_spec(method: str = "lora", **changes: Any) -> JobSpec:
    """Return a spec of six steps of four rows, with a rate that a tiny model learns from. `changes` override the
    spec, those of `training` its part. Adapters of any rank have the default's alpha."""
    training = {
        "max_steps": 6,
        "batch_size": 4,
        "learning_rate": 0.01,
        "save_every": 1000,
    } | changes.pop("training", {})
    if training.get("epochs"):
        training.pop("max_steps")
    if changes.get("adapter"):
        changes["adapter"] = {"alpha": 32} | changes["adapter"]
    spec = {"base_model": "tiny", "dataset_id": "file-" + "0" * 24, "method": method, "training": training} | changes
    return JobSpec.model_validate(spec).decided(512)


@pytest.fixture(scope="session")
def shared_verdicts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verdicts")


@pytest.fixture
def own_verdicts() -> None:
    """Be used by tests of the parity check, and of what may happen during it."""


@pytest.fixture
def cache_dir(request: pytest.FixtureRequest, tmp_path: Path, shared_verdicts: Path) -> Path:
    """Return the cache folder of a test's trainings. Tests that replace no code share the verdicts of the parity check,
    as trainings on one machine do: it takes a quarter of a tiny training's processor time."""
    folder = tmp_path / "cache"
    if not {"monkeypatch", "own_verdicts"}.intersection(request.fixturenames):
        folder.mkdir()
        (folder / "parity").symlink_to(shared_verdicts)
    return folder


@pytest.fixture
def make_request(tmp_path: Path, cache_dir: Path, tiny: Callable[[str], Path]) -> Callable[..., TrainingRequest]:
    def make(
        method: str = "lora", *, family: str = "llama", spec: JobSpec | None = None, **fields: Any
    ) -> TrainingRequest:
        work_dir = fields.pop("work_dir", tmp_path / "work")
        work_dir.mkdir(exist_ok=True)
        defaults: dict[str, Any] = {
            "spec": spec or make_spec(method),
            "resolved": FP32,
            "attempt": 1,
            "base_model": "acme/tiny",
            "base_model_revision": "r1",
            "base_model_path": tiny(family),
            "dataset_path": None,
            "dataset_sha256": "0" * 64,
            "validation_path": None,
            "validation_sha256": None,
            "checkpoint_path": None,
            "work_dir": work_dir,
            "cache_dir": cache_dir,
            "threads": 1,
        }
        if "dataset_path" not in fields:
            defaults["dataset_path"] = write_rows(tmp_path / "rows.jsonl")
        return TrainingRequest(**(defaults | fields))

    return make

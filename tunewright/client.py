"""The one thing to import: a server, as an object."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from tunewright import download, local, upload
from tunewright.calls.keys import KeyCalls
from tunewright.calls.models import ModelCalls
from tunewright.calls.projects import ProjectCalls
from tunewright.calls.webhooks import WebhookCalls
from tunewright.errors import TunewrightError
from tunewright.transport import EVENTS, METRICS, Transport, once, poll
from tunewright.waiting import wait_until_final
from tunewright.watch import Watch
from tunewright.wire import (
    About,
    Adapter,
    AdapterSummary,
    Artifact,
    Checkpoint,
    Dataset,
    Event,
    Job,
    MetricPoint,
    Overlap,
    OverlapSummary,
    Preview,
    PreviewSummary,
    Problem,
    Queues,
    Readiness,
    ValidatedSpec,
    Worker,
)


class Client(KeyCalls, ModelCalls, ProjectCalls, WebhookCalls):
    """`url` and `api_key` default to TUNEWRIGHT_URL and TUNEWRIGHT_API_KEY, then to this machine's `tunewright up`.

    Every method raises TunewrightError, and its child ConnectionFailed when no answer comes.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self._transport = Transport(url or local.find_url(), api_key or local.find_key())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # Datasets

    def upload_dataset(
        self,
        path: str | Path,
        progress: upload.Progress | None = None,
        *,
        expires_after_seconds: int | None = None,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> Dataset:
        """Sends the file as it is read, a large one in parts. The dataset is inspected afterwards: see
        `wait_for_dataset`. Its format is found by looking, unless it is named; `columns={"prompt": "input"}` has the
        file's key `input` read as `prompt`. It is deleted when it expires and no
        unfinished job uses it; the server may have a time of its own for those that do not say.

        A part that gets no answer is sent again, for two minutes. What was interrupted for longer goes on with
        `resume`: parts of a file of this name and size that the server holds are not sent again."""
        path = Path(path)
        mapped = dict(columns) if columns else None
        wanted = {"expires_after_seconds": expires_after_seconds, "format": format, "columns": mapped}
        params = {name: value for name, value in wanted.items() if value is not None}
        if path.stat().st_size > upload.WHOLE_BYTES:
            return self.get_dataset(upload.send_in_parts(self._transport, path, progress, params, resume))
        if mapped:
            params["columns"] = json.dumps(mapped)
        with upload.Upload(path, progress) as file:
            sent = {"file": (file.filename, file)}
            return Dataset.read(self._transport.ask("POST", "datasets", params=params, files=sent))

    def get_dataset(self, id: str) -> Dataset:
        return Dataset.read(self._transport.ask("GET", "datasets", id))

    def list_datasets(self, state: str | None = None, sha256: str | None = None) -> Iterator[Dataset]:
        """Newest first. `sha256`, in hex, is that of the bytes as they were uploaded."""
        return map(Dataset.read, self._transport.pages("datasets", params={"state": state, "sha256": sha256}))

    def wait_for_dataset(self, id: str) -> Dataset:
        """Until its inspection has ended, in `ready` or `invalid`."""
        return poll(lambda: self.get_dataset(id), lambda dataset: dataset.state in ("ready", "invalid"))

    def dataset_problems(
        self, id: str, code: str | None = None, severity: str | None = None, *, each_row: bool = False
    ) -> Iterator[Problem]:
        """What its inspection found wrong, of each code the first thousand: problems that say the same are one, with
        their count; `each_row` lists each by its line. `severity` is error or warning."""
        params = {"code": code, "severity": severity, "each_row": "true" if each_row else None, "limit": 1000}
        return map(Problem.read, self._transport.pages("datasets", id, "problems", params=params))

    def clean_dataset(self, id: str, *, drop_duplicates: bool = False, idempotency_key: str | None = None) -> Dataset:
        """A new dataset of the rows without an error, which is inspected like an upload: see `wait_for_dataset`.

        `drop_duplicates` leaves out rows whose texts are an earlier row's, to the letter. For the key see
        `create_job`."""
        params = {"drop_duplicates": drop_duplicates}
        path = ("datasets", id, "clean")
        return Dataset.read(self._transport.ask("POST", *path, params=params, headers=once(idempotency_key)))

    def delete_dataset(self, id: str) -> None:
        self._transport.ask("DELETE", "datasets", id)

    def create_preview(self, dataset_id: str, *, idempotency_key: str | None = None, **spec: Any) -> Preview:
        """Ask what a model would see of the rows, by the fields of a PreviewSpec: `base_model`, `rows`, and what else a
        job is to be trained with (`max_seq_len`, `train_on`, `batch_size`, …). See `wait_for_preview`."""
        path = ("datasets", dataset_id, "previews")
        return Preview.read(self._transport.ask("POST", *path, json=spec, headers=once(idempotency_key)))

    def get_preview(self, dataset_id: str, id: str) -> Preview:
        return Preview.read(self._transport.ask("GET", "datasets", dataset_id, "previews", id))

    def list_previews(self, dataset_id: str) -> Iterator[PreviewSummary]:
        """Newest first, without their rows; the newest twenty are kept."""
        return map(PreviewSummary.read, self._transport.pages("datasets", dataset_id, "previews"))

    def wait_for_preview(self, dataset_id: str, id: str) -> Preview:
        """Until it is `ready` or `failed`."""
        return poll(lambda: self.get_preview(dataset_id, id), lambda preview: preview.state != "pending")

    def create_overlap(
        self, dataset_id: str, validation_dataset_id: str, *, idempotency_key: str | None = None
    ) -> Overlap:
        """Ask which rows of a validation dataset the dataset holds too. See `wait_for_overlap`."""
        wanted = {"validation_dataset_id": validation_dataset_id}
        path = ("datasets", dataset_id, "overlaps")
        return Overlap.read(self._transport.ask("POST", *path, json=wanted, headers=once(idempotency_key)))

    def get_overlap(self, dataset_id: str, id: str) -> Overlap:
        return Overlap.read(self._transport.ask("GET", "datasets", dataset_id, "overlaps", id))

    def list_overlaps(self, dataset_id: str) -> Iterator[OverlapSummary]:
        """Newest first, without their pairs; the newest twenty are kept."""
        return map(OverlapSummary.read, self._transport.pages("datasets", dataset_id, "overlaps"))

    def wait_for_overlap(self, dataset_id: str, id: str) -> Overlap:
        """Until it is `ready` or `failed`."""
        return poll(lambda: self.get_overlap(dataset_id, id), lambda overlap: overlap.state != "pending")

    # Jobs

    def create_job(self, *, idempotency_key: str | None = None, **spec: Any) -> Job:
        """By the fields of a JobSpec: `base_model`, `dataset_id`, `training={"epochs": 2}` and what else is wanted.

        With an `idempotency_key` of yours it may be called again, after ConnectionFailed for instance: within 24 hours
        the same spec with the same key makes no second job."""
        return Job.read(self._transport.ask("POST", "jobs", json=spec, headers=once(idempotency_key)))

    def validate_job(self, **spec: Any) -> ValidatedSpec:
        """Check a spec as `create_job` would, and make nothing. TunewrightError has every bad field."""
        return ValidatedSpec.read(self._transport.ask("POST", "jobs", params={"validate_only": True}, json=spec))

    def get_job(self, id: str) -> Job:
        return Job.read(self._transport.ask("GET", "jobs", id))

    def list_jobs(
        self,
        state: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] = {},
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Iterator[Job]:
        """Newest first; every pair of `metadata` must match."""
        params: dict[str, Any] = {
            "state": state,
            "model": model,
            "created_after": created_after and created_after.astimezone().isoformat(),
            "created_before": created_before and created_before.astimezone().isoformat(),
        }
        params |= {f"metadata[{key}]": value for key, value in metadata.items()}
        return map(Job.read, self._transport.pages("jobs", params=params))

    def cancel_job(self, id: str) -> Job:
        return Job.read(self._transport.ask("POST", "jobs", id, "cancel"))

    def pause_job(self, id: str) -> Job:
        """A running job is `pausing` until its checkpoint is stored, then `paused`."""
        return Job.read(self._transport.ask("POST", "jobs", id, "pause"))

    def resume_job(self, id: str) -> Job:
        return Job.read(self._transport.ask("POST", "jobs", id, "resume"))

    def retry_job(
        self,
        id: str,
        *,
        changes: Mapping[str, Any] | None = None,
        from_: Literal["start", "last_checkpoint"] = "start",
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job by the spec of one that is final, with changes to any of its fields; its `retry_of` is `id`. From
        `last_checkpoint` it goes on with the state that the old job has saved last. For the key see `create_job`."""
        asked = {"changes": dict(changes or {}), "from": from_}
        return Job.read(self._transport.ask("POST", "jobs", id, "retry", json=asked, headers=once(idempotency_key)))

    def delete_job(self, id: str) -> None:
        self._transport.ask("DELETE", "jobs", id)

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """Those that are there by now, after the event of number `after`."""
        path = ("jobs", job_id, "events")
        return map(Event.read, self._transport.pages(*path, params={"after": after}, following=EVENTS))

    def metrics(self, job_id: str, names: Sequence[str] = (), after_step: int = -1) -> Iterator[MetricPoint]:
        """Every point of the curves as they are by now: of each step what the latest attempt measured."""
        path = ("jobs", job_id, "metrics")
        params = {"names": list(names), "after_step": after_step}
        return map(MetricPoint.read, self._transport.pages(*path, params=params, following=METRICS))

    def curves(
        self,
        job_id: str,
        names: Sequence[str] = (),
        from_step: int = 0,
        to_step: int | None = None,
        max_points: int = 2000,
    ) -> list[MetricPoint]:
        """A range of the curves in few points, however long it is: where it holds more, each of equal groups of
        steps is shown by the lowest and the highest value of each name."""
        wanted = {"names": list(names), "from_step": from_step, "to_step": to_step, "max_points": max_points}
        params = {name: value for name, value in wanted.items() if value is not None}
        answer = self._transport.ask("GET", "jobs", job_id, "metrics", params=params)
        return [MetricPoint.read(raw) for raw in answer["items"]]

    def download_metrics(
        self, job_id: str, path: str | Path, names: Sequence[str] = (), all_attempts: bool = False
    ) -> Path:
        """Every value of the curves as a file, `.csv` or `.parquet`; with `all_attempts` also what was rewound."""
        path = Path(path)
        if path.suffix not in (".csv", ".parquet"):
            said = f"{path.name} must end in .csv or .parquet, which says what is written into it."
            raise TunewrightError(None, "bad_settings", said)
        wanted = {"names": list(names), "all_attempts": all_attempts}
        with self._transport.stream("GET", "jobs", job_id, f"metrics{path.suffix}", params=wanted) as body:
            download.save_stream(body, path)
        return path

    def watch(self, job_id: str) -> Iterator[Event | MetricPoint]:
        """Everything from the job's beginning, then what happens, as it happens, until the job's end.

        A connection that breaks is made again, and nothing is missed or told twice. Points of a later attempt repeat
        an earlier one's steps: the event `job_resumed` says from which step on.
        """
        return Watch(self._transport, job_id).updates()

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job, once it is final. Raises TimeoutError if it is not after `timeout` seconds; the job goes on.

        The server answers when something has changed, so that this asks seldom and learns of the end within a second.
        """
        return wait_until_final(self._transport, job_id, timeout)

    def logs(self, job_id: str) -> str:
        """The last that the training process has said."""
        return self._transport.send("GET", "jobs", job_id, "logs").text

    def artifacts(self, job_id: str) -> list[Artifact]:
        return [Artifact.read(each) for each in self._transport.ask("GET", "jobs", job_id, "artifacts")["items"]]

    def download_artifacts(self, job_id: str, folder: str | Path) -> Path:
        """Every file that the job has made, an adapter or a whole model, each checked against its SHA-256."""
        made = [artifact for artifact in self.artifacts(job_id) if artifact.kind != "adapter_archive"]
        for path, artifact in [(download.place(Path(folder), artifact.path), artifact) for artifact in made]:
            with self._transport.stream("GET", "artifacts", artifact.id, "content") as body:
                download.save(body, path, artifact.size, artifact.sha256)
        return Path(folder)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Those that are stored, the furthest first, each with what was measured at its step."""
        return [Checkpoint.read(each) for each in self._transport.ask("GET", "jobs", job_id, "checkpoints")["items"]]

    def download_checkpoint(self, job_id: str, id: str, folder: str | Path) -> Path:
        """The adapter as it was at the checkpoint's step, in PEFT's format, checked against its SHA-256; returns the
        folder."""
        with self._transport.stream("GET", "jobs", job_id, "checkpoints", id, "archive") as body:
            download.save_unpacked(body, Path(folder))
        return Path(folder)

    # Adapters

    def list_adapters(self) -> Iterator[AdapterSummary]:
        return map(AdapterSummary.read, self._transport.pages("adapters"))

    def get_adapter(self, id: str) -> Adapter:
        """By its id or its name (`ft:…`), as in all that follows."""
        return Adapter.read(self._transport.ask("GET", "adapters", id))

    def download_adapter(self, id: str, folder: str | Path) -> Path:
        """Every file of the adapter, each checked against its SHA-256; returns the folder."""
        folder = Path(folder)
        files = [(download.place(folder, file.path), file) for file in self.get_adapter(id).files]
        for path, file in files:
            with self._transport.stream("GET", "adapters", id, "files", *file.path.split("/")) as body:
                download.save(body, path, file.size, file.sha256)
        return folder

    def download_archive(self, id: str, path: str | Path) -> Path:
        """The adapter as one tar file, checked against its SHA-256."""
        archive = self.get_adapter(id).archive
        with self._transport.stream("GET", "adapters", id, "archive") as body:
            download.save(body, Path(path), archive.size, archive.sha256)
        return Path(path)

    def delete_adapter(self, id: str) -> None:
        self._transport.ask("DELETE", "adapters", id)

    # The server

    def about(self) -> About:
        """Which server answers; needs no valid key."""
        return About.read(self._transport.ask("GET"))

    def readiness(self) -> Readiness:
        """Whether the server's parts answer; needs no valid key."""
        return Readiness.read(self._transport.ask("GET", "readyz", good=503))

    def queues(self) -> Queues:
        """How much work waits, over all projects."""
        return Queues.read(self._transport.ask("GET", "queues"))

    def workers(self, job_id: str | None = None) -> list[Worker]:
        """Every worker seen within a day, those online first; with a job also what keeps each from taking it up."""
        params = {"job": job_id} if job_id is not None else {}
        return [Worker.read(each) for each in self._transport.ask("GET", "workers", params=params)["items"]]

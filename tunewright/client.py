"""Defines `Client`, which calls a server's API."""

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
from tunewright.transport import EVENTS, METRICS, Transport, idempotency_header, poll
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
    """Calls a server's API. `url` and `api_key` default to TUNEWRIGHT_URL and TUNEWRIGHT_API_KEY, then to the server
    that `tunewright up` runs on this machine.

    Every method raises TunewrightError on failure, and its subclass ConnectionFailed if there is no response."""

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
        """Upload a file as a stream, in parts if it is large. The server then inspects the dataset: see
        `wait_for_dataset`.

        The format is detected unless `format` names it. `columns={"prompt": "input"}` reads the file's key `input` as
        `prompt`. A dataset that has expired is deleted once no unfinished job uses it. Without
        `expires_after_seconds` the server's default applies.

        A failed part is sent again for up to two minutes. After a longer interruption, `resume=True` continues the
        upload: parts of a file with this name and size that the server already has are not sent again."""
        path = Path(path)
        mapped = dict(columns) if columns else None
        options = {"expires_after_seconds": expires_after_seconds, "format": format, "columns": mapped}
        params = {name: value for name, value in options.items() if value is not None}
        if path.stat().st_size > upload.WHOLE_BYTES:
            return self.get_dataset(upload.send_in_parts(self._transport, path, progress, params, resume))
        if mapped:
            params["columns"] = json.dumps(mapped)
        with upload.Upload(path, progress) as file:
            sent = {"file": (file.filename, file)}
            return Dataset.read(self._transport.request_json("POST", "datasets", params=params, files=sent))

    def get_dataset(self, id: str) -> Dataset:
        return Dataset.read(self._transport.request_json("GET", "datasets", id))

    def list_datasets(self, state: str | None = None, sha256: str | None = None) -> Iterator[Dataset]:
        """List datasets, newest first. `sha256`, in hex, is the digest of the uploaded bytes."""
        return map(Dataset.read, self._transport.iterate_pages("datasets", params={"state": state, "sha256": sha256}))

    def wait_for_dataset(self, id: str) -> Dataset:
        """Wait until the dataset's inspection has ended, and return the dataset, `ready` or `invalid`."""
        return poll(lambda: self.get_dataset(id), lambda dataset: dataset.state in ("ready", "invalid"))

    def dataset_problems(
        self, id: str, code: str | None = None, severity: str | None = None, *, each_row: bool = False
    ) -> Iterator[Problem]:
        """List the problems that the inspection found, at most a thousand per code.

        Problems with the same message are returned as one, with a count; `each_row` returns each problem by line.
        `severity` is error or warning."""
        params = {"code": code, "severity": severity, "each_row": "true" if each_row else None, "limit": 1000}
        return map(Problem.read, self._transport.iterate_pages("datasets", id, "problems", params=params))

    def clean_dataset(self, id: str, *, drop_duplicates: bool = False, idempotency_key: str | None = None) -> Dataset:
        """Create a dataset from the rows without an error. It is inspected like an upload: see `wait_for_dataset`.

        `drop_duplicates` omits rows whose texts are identical to those of an earlier row. For `idempotency_key` see
        `create_job`."""
        params = {"drop_duplicates": drop_duplicates}
        path = ("datasets", id, "clean")
        return Dataset.read(
            self._transport.request_json("POST", *path, params=params, headers=idempotency_header(idempotency_key))
        )

    def delete_dataset(self, id: str) -> None:
        self._transport.request_json("DELETE", "datasets", id)

    def create_preview(self, dataset_id: str, *, idempotency_key: str | None = None, **spec: Any) -> Preview:
        """Create a preview of the rows as a model would see them, from the fields of a PreviewSpec: `base_model`,
        `rows`, and further settings of a job (`max_seq_len`, `train_on`, `batch_size`, …). See `wait_for_preview`."""
        path = ("datasets", dataset_id, "previews")
        return Preview.read(
            self._transport.request_json("POST", *path, json=spec, headers=idempotency_header(idempotency_key))
        )

    def get_preview(self, dataset_id: str, id: str) -> Preview:
        return Preview.read(self._transport.request_json("GET", "datasets", dataset_id, "previews", id))

    def list_previews(self, dataset_id: str) -> Iterator[PreviewSummary]:
        """List previews, newest first, without their rows. The server keeps the newest twenty."""
        return map(PreviewSummary.read, self._transport.iterate_pages("datasets", dataset_id, "previews"))

    def wait_for_preview(self, dataset_id: str, id: str) -> Preview:
        """Wait until the preview is `ready` or `failed`, and return it."""
        return poll(lambda: self.get_preview(dataset_id, id), lambda preview: preview.state != "pending")

    def create_overlap(
        self, dataset_id: str, validation_dataset_id: str, *, idempotency_key: str | None = None
    ) -> Overlap:
        """Start a search for rows of a validation dataset that the dataset also contains. See `wait_for_overlap`."""
        body = {"validation_dataset_id": validation_dataset_id}
        path = ("datasets", dataset_id, "overlaps")
        return Overlap.read(
            self._transport.request_json("POST", *path, json=body, headers=idempotency_header(idempotency_key))
        )

    def get_overlap(self, dataset_id: str, id: str) -> Overlap:
        return Overlap.read(self._transport.request_json("GET", "datasets", dataset_id, "overlaps", id))

    def list_overlaps(self, dataset_id: str) -> Iterator[OverlapSummary]:
        """List overlaps, newest first, without their pairs. The server keeps the newest twenty."""
        return map(OverlapSummary.read, self._transport.iterate_pages("datasets", dataset_id, "overlaps"))

    def wait_for_overlap(self, dataset_id: str, id: str) -> Overlap:
        """Wait until the overlap is `ready` or `failed`, and return it."""
        return poll(lambda: self.get_overlap(dataset_id, id), lambda overlap: overlap.state != "pending")

    # Jobs

    def create_job(self, *, idempotency_key: str | None = None, **spec: Any) -> Job:
        """Create a job from the fields of a JobSpec: `base_model`, `dataset_id`, `training={"epochs": 2}` and others.

        With an `idempotency_key` the call can be repeated, for example after ConnectionFailed: within 24 hours the same
        spec with the same key creates no second job."""
        return Job.read(
            self._transport.request_json("POST", "jobs", json=spec, headers=idempotency_header(idempotency_key))
        )

    def validate_job(self, **spec: Any) -> ValidatedSpec:
        """Check a spec as `create_job` would, without creating a job. TunewrightError lists every invalid field."""
        return ValidatedSpec.read(
            self._transport.request_json("POST", "jobs", params={"validate_only": True}, json=spec)
        )

    def get_job(self, id: str) -> Job:
        return Job.read(self._transport.request_json("GET", "jobs", id))

    def list_jobs(
        self,
        state: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] = {},
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        created_by: str | None = None,
        name: str | None = None,
    ) -> Iterator[Job]:
        """List jobs, newest first. Every pair of `metadata` must match. `created_by` is the id of an API key; `name` is
        a part of a job's name, or the beginning of its id."""
        params: dict[str, Any] = {
            "state": state,
            "model": model,
            "created_after": created_after and created_after.astimezone().isoformat(),
            "created_before": created_before and created_before.astimezone().isoformat(),
            "created_by": created_by,
            "name": name,
        }
        params |= {f"metadata[{key}]": value for key, value in metadata.items()}
        return map(Job.read, self._transport.iterate_pages("jobs", params=params))

    def cancel_job(self, id: str) -> Job:
        return Job.read(self._transport.request_json("POST", "jobs", id, "cancel"))

    def pause_job(self, id: str) -> Job:
        """Pause a job. A running job is `pausing` until its checkpoint is stored, then `paused`."""
        return Job.read(self._transport.request_json("POST", "jobs", id, "pause"))

    def resume_job(self, id: str) -> Job:
        return Job.read(self._transport.request_json("POST", "jobs", id, "resume"))

    def retry_job(
        self,
        id: str,
        *,
        changes: Mapping[str, Any] | None = None,
        from_: Literal["start", "last_checkpoint"] = "start",
        idempotency_key: str | None = None,
    ) -> Job:
        """Create a job from the spec of a finished one, with changes to any of its fields. Its `retry_of` is `id`.

        With `from_="last_checkpoint"` it continues from the last state that the old job saved. For `idempotency_key`
        see `create_job`."""
        body = {"changes": dict(changes or {}), "from": from_}
        return Job.read(
            self._transport.request_json(
                "POST", "jobs", id, "retry", json=body, headers=idempotency_header(idempotency_key)
            )
        )

    def delete_job(self, id: str) -> None:
        self._transport.request_json("DELETE", "jobs", id)

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """List the events so far, after the event with the number `after`."""
        path = ("jobs", job_id, "events")
        return map(Event.read, self._transport.iterate_pages(*path, params={"after": after}, following=EVENTS))

    def metrics(self, job_id: str, names: Sequence[str] = (), after_step: int = -1) -> Iterator[MetricPoint]:
        """List all metrics measured so far: for each step, the values of the latest attempt."""
        path = ("jobs", job_id, "metrics")
        params = {"names": list(names), "after_step": after_step}
        return map(MetricPoint.read, self._transport.iterate_pages(*path, params=params, following=METRICS))

    def curves(
        self,
        job_id: str,
        names: Sequence[str] = (),
        from_step: int = 0,
        to_step: int | None = None,
        max_points: int = 2000,
    ) -> list[MetricPoint]:
        """Return the metrics of a range of steps, reduced to `max_points`. If the range has more points, its steps are
        divided into equal groups, and each group has the lowest and the highest value of each name."""
        fields = {"names": list(names), "from_step": from_step, "to_step": to_step, "max_points": max_points}
        params = {name: value for name, value in fields.items() if value is not None}
        answer = self._transport.request_json("GET", "jobs", job_id, "metrics", params=params)
        return [MetricPoint.read(raw) for raw in answer["items"]]

    def download_metrics(
        self, job_id: str, path: str | Path, names: Sequence[str] = (), all_attempts: bool = False
    ) -> Path:
        """Download all metrics as a `.csv` or `.parquet` file. `all_attempts` includes values of steps that a later
        attempt repeated."""
        path = Path(path)
        if path.suffix not in (".csv", ".parquet"):
            detail = f"Invalid file name {path.name!r}; use one that ends in .csv or .parquet."
            raise TunewrightError(None, "bad_settings", detail)
        params = {"names": list(names), "all_attempts": all_attempts}
        with self._transport.stream("GET", "jobs", job_id, f"metrics{path.suffix}", params=params) as body:
            download.save_stream(body, path)
        return path

    def watch(self, job_id: str) -> Iterator[Event | MetricPoint]:
        """Yield all events and metric points since the job's creation, then new ones as they occur, until the job ends.

        A lost connection is reopened, and no update is lost or repeated. A later attempt may repeat steps of an earlier
        one: the event `job_resumed` has the step that it resumes from."""
        return Watch(self._transport, job_id).updates()

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Wait until the job has ended, and return it. Raises TimeoutError after `timeout` seconds; the job continues.

        It uses long polling: few requests are needed, and the end is noticed within a second."""
        return wait_until_final(self._transport, job_id, timeout)

    def logs(self, job_id: str) -> str:
        """Return the end of the training process's log."""
        return self._transport.request("GET", "jobs", job_id, "logs").text

    def artifacts(self, job_id: str) -> list[Artifact]:
        return [
            Artifact.read(each) for each in self._transport.request_json("GET", "jobs", job_id, "artifacts")["items"]
        ]

    def download_artifacts(self, job_id: str, folder: str | Path) -> Path:
        """Download every file that the job has produced, an adapter or a whole model, and verify each SHA-256."""
        artifacts = [artifact for artifact in self.artifacts(job_id) if artifact.kind != "adapter_archive"]
        for path, artifact in [(download.safe_path(Path(folder), artifact.path), artifact) for artifact in artifacts]:
            with self._transport.stream("GET", "artifacts", artifact.id, "content") as body:
                download.save(body, path, artifact.size, artifact.sha256)
        return Path(folder)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """List the stored checkpoints, latest step first, each with the values measured at its step."""
        return [
            Checkpoint.read(each)
            for each in self._transport.request_json("GET", "jobs", job_id, "checkpoints")["items"]
        ]

    def download_checkpoint(self, job_id: str, id: str, folder: str | Path) -> Path:
        """Download the adapter of a checkpoint in PEFT's format, verify its SHA-256, and return the folder."""
        with self._transport.stream("GET", "jobs", job_id, "checkpoints", id, "archive") as body:
            download.save_archive(body, Path(folder))
        return Path(folder)

    # Adapters

    def list_adapters(self) -> Iterator[AdapterSummary]:
        return map(AdapterSummary.read, self._transport.iterate_pages("adapters"))

    def get_adapter(self, id: str) -> Adapter:
        """Return an adapter. All adapter methods accept its id or its name (`ft:…`)."""
        return Adapter.read(self._transport.request_json("GET", "adapters", id))

    def download_adapter(self, id: str, folder: str | Path) -> Path:
        """Download every file of the adapter, verify each SHA-256, and return the folder."""
        folder = Path(folder)
        files = [(download.safe_path(folder, file.path), file) for file in self.get_adapter(id).files]
        for path, file in files:
            with self._transport.stream("GET", "adapters", id, "files", *file.path.split("/")) as body:
                download.save(body, path, file.size, file.sha256)
        return folder

    def download_archive(self, id: str, path: str | Path) -> Path:
        """Download the adapter as one tar file, and verify its SHA-256."""
        archive = self.get_adapter(id).archive
        with self._transport.stream("GET", "adapters", id, "archive") as body:
            download.save(body, Path(path), archive.size, archive.sha256)
        return Path(path)

    def delete_adapter(self, id: str) -> None:
        self._transport.request_json("DELETE", "adapters", id)

    # The server

    def about(self) -> About:
        """Return the server's name and version. No valid key is needed."""
        return About.read(self._transport.request_json("GET"))

    def readiness(self) -> Readiness:
        """Return whether the server's parts respond. No valid key is needed."""
        return Readiness.read(self._transport.request_json("GET", "readyz", good=503))

    def queues(self) -> Queues:
        """Return how much work is waiting, over all projects."""
        return Queues.read(self._transport.request_json("GET", "queues"))

    def workers(self, job_id: str | None = None) -> list[Worker]:
        """List the workers seen within a day, online workers first. With `job_id`, each has the reasons why it cannot
        take that job."""
        params = {"job": job_id} if job_id is not None else {}
        return [Worker.read(each) for each in self._transport.request_json("GET", "workers", params=params)["items"]]

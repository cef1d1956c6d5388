"""Writes the demonstration's jobs to the database and their files to storage."""

import hashlib
import json
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.db.tables import Adapter, Artifact, Attempt, Checkpoint, DatasetUse, Job, JobEvent
from app.domain.artifact import ADAPTER_ARCHIVE, ArtifactKind, StoredFile
from app.domain.jobs.model_names import fine_tuned_name
from app.domain.jobs.state import FINAL, HELD, JobState
from app.domain.storage_keys import attempt_folder
from app.jobs.metrics.repository import MetricRepository
from tests.page.demo.curves import evaluate
from tests.page.demo.models import HUB_NAMES, PARAMETERS, revision_of
from tests.page.demo.stories import Story
from tests.page.demo.timeline import Course
from tests.page.demo.workers import MACHINES, fingerprint_of

POINTS_AT_ONCE = 500
KEPT_CHECKPOINTS = 3
LIBRARIES = {"python": "3.11.9", "tunewright": "0.1.0", "torch": "2.13.0", "transformers": "5.4.0", "peft": "0.19.1"}


class Owner(NamedTuple):
    project_id: str
    storage: Path | None
    """Is the folder of the storage, if its files are to be written."""
    now: datetime


def seeded_id(prefix: str, name: str) -> str:
    """Return the same id each time for the same name."""
    return f"{prefix}{hashlib.sha256(f'{prefix}{name}'.encode()).hexdigest()[:24]}"


def write_job(session: Session, owner: Owner, story: Story, course: Course, spec: dict[str, Any]) -> Job:
    job = job_row(owner, story, course, spec)
    session.add(job)
    session.flush()
    for role in ("dataset_id", "validation_dataset_id"):
        if spec[role]:
            session.add(
                DatasetUse(
                    project_id=owner.project_id, dataset_id=spec[role], job_id=job.id,
                    role="training" if role == "dataset_id" else "validation", active=story.state not in FINAL,
                )
            )  # fmt: skip
    session.flush()
    write_attempts(session, owner, story, course, job)
    write_events(session, owner, course, job)
    for start in range(0, len(course.points), POINTS_AT_ONCE):
        MetricRepository(session).add(owner.project_id, job.id, course.points[start : start + POINTS_AT_ONCE])
    write_checkpoints(session, owner, story, course, job)
    if story.state == JobState.succeeded:
        write_result(session, owner, story, course, job)
    return job


def job_row(owner: Owner, story: Story, course: Course, spec: dict[str, Any]) -> Job:
    last, held = story.legs[-1] if story.legs else None, story.state in HELD
    step = last.last if last else 0
    left = (story.shape.total_steps - step) * story.shape.seconds_per_step()
    resources = spec["resources"]
    return Job(
        id=seeded_id("ftjob-", story.name),
        project_id=owner.project_id,
        name=story.name,
        state=story.state,
        phase=story.phase if held else None,
        priority=spec["priority"],
        base_model=story.base_model,
        method=story.method,
        created_by_key_id=seeded_id("key-", story.key),
        created_by_name=story.key,
        spec=spec,
        metadata_=dict(story.metadata),
        min_memory_gb=resources["min_memory_gb"],
        device=resources["device"],
        gpu=resources["gpu"],
        labels=resources["labels"],
        attempt=len(story.legs),
        claim_token="demonstration" if story.legs else None,
        worker_id=last.worker if last and held else None,
        lease_until=owner.now + timedelta(days=365) if held else None,
        failed_attempts=sum(leg.outcome == "failed" for leg in story.legs),
        lost_attempts=sum(leg.outcome == "lost" for leg in story.legs),
        step=step,
        total_steps=story.shape.total_steps if story.legs else None,
        last_metrics=course.latest or None,
        estimated_finish_at=owner.now + timedelta(seconds=left) if story.state == JobState.running else None,
        failure_reason=story.failure[0] if story.failure else None,
        failure_message=story.failure[1] if story.failure else None,
        last_event_number=len(course.events),
        created_at=course.created_at,
        queued_at=course.created_at,
        started_at=course.attempts[0].started_at if course.attempts else None,
        finished_at=course.at if story.state in FINAL else None,
        inexact_resumes=inexact_resumes(story),
    )


def inexact_resumes(story: Story) -> list[dict[str, Any]]:
    """Return the resumes on another kind of GPU."""
    found = []
    for before, leg in zip(story.legs, story.legs[1:], strict=False):
        if leg.start and fingerprint_of(before.worker) != fingerprint_of(leg.worker):
            differs = {"machine.gpu": {"before": gpu_of(before.worker), "now": gpu_of(leg.worker)}}
            found.append({"step": leg.start, "differs": differs})
    return found


def gpu_of(worker: str) -> str:
    return MACHINES[worker].device_name


def write_attempts(session: Session, owner: Owner, story: Story, course: Course, job: Job) -> None:
    for attempt in course.attempts:
        session.add(
            Attempt(
                project_id=owner.project_id, job_id=job.id, number=attempt.number, worker_id=attempt.leg.worker,
                claim_token="demonstration", started_at=attempt.started_at,  # noqa: S106
                ended_at=attempt.ended_at, outcome=attempt.leg.outcome, start_step=attempt.leg.start,
                resolved=resolved(story, job.spec, attempt.leg.out_of_memory_at),
                log_tail=log_tail(story) if attempt.leg.outcome == "failed" else "",
            )
        )  # fmt: skip


def resolved(story: Story, spec: dict[str, Any], out_of_memory_at: Sequence[int] = ()) -> dict[str, Any]:
    tokens = 16_384 >> len(out_of_memory_at)
    training = {
        "learning_rate": story.shape.learning_rate,
        "max_seq_len": 2048 if spec["training"]["max_seq_len"] == "auto" else spec["training"]["max_seq_len"],
        "gradient_checkpointing": bool(out_of_memory_at),
        "save_every": story.save_every,
    }
    return {
        "resources": {"device": "cuda"},
        "training": training,
        "adapter": None if story.method == "full" else {"alpha": 2.0 * spec["adapter"]["rank"]},
        "quantization": {"compute_dtype": "bfloat16"} if story.method == "qlora" else None,
        "engine": {
            "compute_dtype": "bfloat16",
            "micro_batch_tokens": tokens,
            "fast_paths": ["loss", "lora", "mlp", "norm", "packing", "rope"],
        },
    }


def log_tail(story: Story) -> str:
    assert story.failure
    return f"step {story.legs[-1].last}/{story.shape.total_steps}\nworker.training.runtime.errors: {story.failure[1]}\n"


def write_events(session: Session, owner: Owner, course: Course, job: Job) -> None:
    rows = [
        {
            "project_id": owner.project_id, "job_id": job.id, "number": number, "type": event.model_dump()["type"],
            "level": event.level, "message": event.message,
            "data": event.model_dump(mode="json", exclude={"type"}), "created_at": at,
        }
        for number, (at, event) in enumerate(course.events, start=1)
    ]  # fmt: skip
    session.execute(insert(JobEvent), rows)


def write_checkpoints(session: Session, owner: Owner, story: Story, course: Course, job: Job) -> None:
    size = result_size(story)
    for attempt, step, at in course.checkpoints[-KEPT_CHECKPOINTS:]:
        folder = f"{attempt_folder(owner.project_id, job.id, attempt)}/checkpoint-{step}"
        names = {"state.safetensors": 3 * size, "manifest.json": 1824, "train_state.json": 9417}
        names |= {} if story.method == "full" else {ADAPTER_ARCHIVE: size + 10_240}
        worker = story.legs[attempt - 1].worker
        session.add(
            Checkpoint(
                project_id=owner.project_id, job_id=job.id, attempt=attempt, step=step,
                files=[checkpoint_file(owner, f"{folder}/{name}", name, size) for name, size in names.items()],
                id=seeded_id("ftckpt_", f"{story.name}/{attempt}/{step}"),
                base_model_revision=revision_of(story.base_model), machine_fingerprint=fingerprint_of(worker),
                created_at=at,
            )
        )  # fmt: skip


def checkpoint_file(owner: Owner, key: str, path: str, size: int) -> dict[str, Any]:
    """Store what can be downloaded; the rest is only counted."""
    if path == ADAPTER_ARCHIVE:
        return zeros(owner, key, path, size).model_dump()
    return StoredFile(path=path, key=key, size=size, sha256=hashlib.sha256(key.encode()).hexdigest()).model_dump()


def result_size(story: Story) -> int:
    """Return the bytes of the adapter's weights, or of the whole model's."""
    if story.method == "full":
        return 2 * PARAMETERS[story.base_model]
    return 4 * story.num_adapter_parameters(PARAMETERS[story.base_model])


def write_result(session: Session, owner: Owner, story: Story, course: Course, job: Job) -> None:
    attempt = len(story.legs)
    folder, manifest = attempt_folder(owner.project_id, job.id, attempt), manifest_of(story, course, job)
    weights = "model.safetensors" if story.method == "full" else "adapter_model.safetensors"
    kind = ArtifactKind.model if story.method == "full" else ArtifactKind.adapter
    adapter_id = None if story.method == "full" else seeded_id("adp-", story.name)
    texts = {
        "README.md": f"# {story.name}\n\nTrained with Tunewright from {HUB_NAMES[story.base_model]}.\n",
        "manifest.json": json.dumps(manifest, indent=2) + "\n",
        "config.json" if story.method == "full" else "adapter_config.json": json.dumps(peft_config(job), indent=2),
    }
    files = [(kind, stored(owner, f"{folder}/result/{name}", name, text.encode())) for name, text in texts.items()]
    files.append((kind, zeros(owner, f"{folder}/result/{weights}", weights, result_size(story))))
    if adapter_id:
        session.add(
            Adapter(
                id=adapter_id, project_id=owner.project_id, job_id=job.id, name=fine_tuned_name(job),
                base_model=story.base_model, manifest=manifest, created_at=course.at,
            )
        )  # fmt: skip
        session.flush()
        size = sum(file.size for _, file in files) + 10_240
        files.append((ArtifactKind.adapter_archive, zeros(owner, f"{folder}/{ADAPTER_ARCHIVE}", ADAPTER_ARCHIVE, size)))
    files += [(kind, stored(owner, f"{folder}/{path}", path, data)) for kind, path, data in reports(story, course)]
    for kind, file in files:
        owned = kind in (ArtifactKind.adapter, ArtifactKind.adapter_archive)
        session.add(
            Artifact(
                id=seeded_id("art-", f"{story.name}/{file.path}"), project_id=owner.project_id, job_id=job.id,
                attempt=attempt, adapter_id=adapter_id if owned else None, kind=kind, path=file.path,
                storage_key=file.key, size=file.size, sha256=file.sha256, created_at=course.at,
            )
        )  # fmt: skip


def manifest_of(story: Story, course: Course, job: Job) -> dict[str, Any]:
    losses = [point.values["loss"] for point in course.points if "loss" in point.values]
    last = max(point.step for point in course.points)
    validation = {"step": last, **evaluate(story.shape, last)} if story.shape.eval_every else None
    return {
        "manifest_version": 1,
        "base_model": {"name": story.base_model, "hub": HUB_NAMES[story.base_model],
                       "revision": revision_of(story.base_model), "hub_name": None, "hub_revision": None},
        "spec": job.spec,
        "resolved": resolved(story, job.spec),
        "libraries": LIBRARIES,
        "seed": 0,
        "num_steps": last,
        "result_step": last,
        "num_tokens": int(course.latest["num_tokens"]),
        "exact": not job.inexact_resumes,
        "inexact_resumes": job.inexact_resumes,
        "first_loss": losses[0],
        "final_loss": losses[-1],
        "validation": validation,
        "chat_template": "the model's tokenizer",
    }  # fmt: skip


def peft_config(job: Job) -> dict[str, Any]:
    if job.method == "full":
        return {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}
    rank = job.spec["adapter"]["rank"]
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "base_model_name_or_path": HUB_NAMES[job.base_model],
    }


def reports(story: Story, course: Course) -> list[tuple[ArtifactKind, str, bytes]]:
    """Return the files about rows and steps."""
    rng = random.Random(story.name)
    rows = sorted(((rng.lognormvariate(-0.2, 0.6), line + 1) for line in range(story.shape.num_rows)), reverse=True)
    losses = "".join(f"{line},{loss:.4f},{rng.randint(12, 160)}\n" for loss, line in rows)
    steps = "".join(f"{point.step},{point.values['loss']:.5f}\n" for point in course.points if "loss" in point.values)
    return [
        (ArtifactKind.row_losses, "row_losses.csv", f"line,loss,num_tokens\n{losses}".encode()),
        (ArtifactKind.step_metrics, "step_metrics.csv", f"step,train_loss\n{steps}".encode()),
    ]


def stored(owner: Owner, key: str, path: str, data: bytes) -> StoredFile:
    if owner.storage:
        place = owner.storage / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return StoredFile(path=path, key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def zeros(owner: Owner, key: str, path: str, size: int) -> StoredFile:
    """Store a file of zeros, which takes no space on the disk."""
    if owner.storage:
        place = owner.storage / key
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            file.truncate(size)
    return StoredFile(path=path, key=key, size=size, sha256=digest_of_zeros(size))


@cache
def digest_of_zeros(size: int) -> str:
    digest, block = hashlib.sha256(), bytes(2**20)
    for _ in range(size // len(block)):
        digest.update(block)
    digest.update(block[: size % len(block)])
    return digest.hexdigest()

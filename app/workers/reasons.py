"""Explains why workers do not claim a job: all together (`waiting_for`), and each one (`GET /workers?job=…`)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.db.tables import Job
from app.labels import show_allowed_labels, show_labels
from app.workers.repository import Placement, ShownWorker

NOT_ONE = "no worker online"
NO_DISK_SPACE = "no worker online with free disk space"
WITH_DEVICE = {"auto": "", "cuda": " with a CUDA device", "cpu": " that trains on its CPU"}
ON_DEVICE = {"auto": "", "cuda": " on a CUDA device", "cpu": " that trains on its CPU"}
ONLY_DRAINING_GPUS = "the matching GPU worker is draining; a CPU worker can claim the job once it has left"


class Reason(NamedTuple):
    """Holds a stable code and a sentence."""

    code: str
    message: str


def describe_shortage(job: Job, placements: Sequence[Placement]) -> str | None:
    """Return the first requirement of the job that no remaining worker meets; None if one fits and has free disk
    space."""
    left = placements
    for condition, words in _describe_needs(job, placements).items():
        left = [each for each in left if condition not in each.unmet]
        if not left:
            return words
    return NO_DISK_SPACE if all(each.disk_full for each in left) else None


def _describe_needs(job: Job, placements: Sequence[Placement]) -> dict[str, str]:
    """Return the text for each condition of `placement.conditions`, used when it excludes the last worker."""
    if not placements:
        return {"online": NOT_ONE}
    allowed = show_allowed_labels(placements[0].allowed_labels)
    among = f" among those with {_format_labels(job.labels)}" if job.labels else ""
    among = among or (f" among those labelled {allowed}" if allowed else "")
    device = f" on a GPU named {_join_names(job.gpu)}" if job.gpu else ON_DEVICE[job.device]
    return {
        "project_labels": f"{NOT_ONE} that the project may use: {allowed}",
        "labels": f"{NOT_ONE} with {_format_labels(job.labels)}",
        "device": f"{NOT_ONE}{WITH_DEVICE[job.device]}{among}",
        "gpu": f"{NOT_ONE} with a GPU named {_join_names(job.gpu)}{among}",
        "memory": f"{NOT_ONE} with {job.min_memory_gb:g} GB{device}{among}",
        "gpu_preferred": ONLY_DRAINING_GPUS,
    }


def explain(job: Job, shown: ShownWorker, placement: Placement) -> list[Reason]:
    """Return what prevents one worker from claiming the job: temporary reasons first, then what its machine lacks."""
    worker = shown.worker
    passing = {
        Reason("offline", "The worker's last heartbeat is older than a lease."): not shown.online,
        Reason("draining", "The worker is draining and claims no new work."): worker.draining,
        Reason("disk_full", "The worker's disk is full; it claims no new work."): worker.disk_full,
        Reason("busy", "The worker is busy with other work."): shown.busy and job.worker_id != worker.id,
        Reason("no_training_queue", "The worker does not train; its queues are " + ", ".join(worker.queues) + "."): (
            "training" not in worker.queues
        ),
    }
    allowed, device = show_allowed_labels(placement.allowed_labels), worker.device_name or worker.device
    lacks = {
        "project_labels": f"The project's jobs run only on workers labelled {allowed}.",
        "labels": f"The job requires {_format_labels(job.labels)}.",
        "device": f"The job requires the device {job.device}; the worker trains on {worker.device}.",
        "gpu": f"The job requires a GPU named {_join_names(job.gpu)}; the worker has {device}.",
        "memory": f"The job requires {job.min_memory_gb:g} GB; the worker has {worker.memory_gb:.1f} GB.",
        "gpu_preferred": "A matching GPU worker is registered; a job with the device auto waits for it.",
    }
    return [reason for reason, holds in passing.items() if holds] + [
        Reason(code, lacks[code]) for code in placement.unmet
    ]


def _format_labels(labels: Mapping[str, str]) -> str:
    return f"the label{'s' * (len(labels) != 1)} {show_labels(labels)}"


def _join_names(names: Sequence[str]) -> str:
    return " or ".join(names)

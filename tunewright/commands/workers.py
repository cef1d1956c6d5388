"""Defines `tunewright workers`."""

from typing import Annotated

import typer

from tunewright import Client, Worker
from tunewright.commands.options import AsJson
from tunewright.display import format_time, print_json, print_table


def list_workers(
    job: Annotated[
        str | None, typer.Option(metavar="ID", help="Show whether each worker can take this job, or why not.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List workers, with their devices and current work."""
    with Client() as client:
        workers = client.workers(job)
    if as_json:
        return print_json([worker.raw for worker in workers])
    if job is not None:
        columns_for_job = {"id": lambda w: w.id, "device": format_device, "can take the job": format_reasons}
        return print_table(workers, columns_for_job)
    columns = {
        "id": lambda w: w.id,
        "state": format_state,
        "job": lambda w: w.job_id or "",
        "queues": lambda w: ", ".join(w.queues),
        "device": format_device,
        "memory": format_memory,
        "labels": lambda w: ", ".join(f"{key}={value}" for key, value in w.labels.items()),
        "tunewright": lambda w: w.versions.get("tunewright", ""),
        "trackers": lambda w: ", ".join(w.integrations),
        "torch": lambda w: w.versions.get("torch", ""),
        "last seen": lambda w: format_time(w.seen_at),
    }
    print_table(workers, columns)


def format_device(worker: Worker) -> str:
    more = f" (first of {worker.num_gpus})" if worker.num_gpus > 1 else ""
    return (worker.device_name or worker.device) + more


def format_memory(worker: Worker) -> str:
    free = "" if worker.free_memory_gb is None else f", {worker.free_memory_gb:.1f} free"
    return f"{worker.memory_gb:.1f} GB{free}"


def format_reasons(worker: Worker) -> str:
    return " ".join(reason["message"] for reason in worker.reasons or ()) or "yes"


def format_state(worker: Worker) -> str:
    if not worker.online:
        return "offline"
    if worker.draining or worker.busy:
        return "draining" if worker.draining else "busy"
    return "out of disk" if worker.disk_full else "idle"

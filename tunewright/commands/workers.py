"""Defines `tunewright workers`."""

from typing import Annotated

import typer

from tunewright import Client, Worker
from tunewright.commands.options import AsJson
from tunewright.display import instant, print_json, print_table


def list_workers(
    job: Annotated[str | None, typer.Option(metavar="ID", help="Tell what keeps each from taking up this job.")] = None,
    as_json: AsJson = False,
) -> None:
    """List workers, with their devices and current work."""
    with Client() as client:
        workers = client.workers(job)
    if as_json:
        return print_json([worker.raw for worker in workers])
    if job is not None:
        explained = {"id": lambda w: w.id, "device": device_of, "could take it now": verdict}
        return print_table(workers, explained)
    columns = {
        "id": lambda w: w.id,
        "is": doing,
        "serves": lambda w: ", ".join(w.queues),
        "device": device_of,
        "memory": memory_of,
        "labels": lambda w: ", ".join(f"{key}={value}" for key, value in w.labels.items()),
        "tunewright": lambda w: w.versions.get("tunewright", ""),
        "trackers": lambda w: ", ".join(w.integrations),
        "torch": lambda w: w.versions.get("torch", ""),
        "last seen": lambda w: instant(w.seen_at),
    }
    print_table(workers, columns)


def device_of(worker: Worker) -> str:
    more = f" (first of {worker.num_gpus})" if worker.num_gpus > 1 else ""
    return (worker.device_name or worker.device) + more


def memory_of(worker: Worker) -> str:
    free = "" if worker.free_memory_gb is None else f", {worker.free_memory_gb:.1f} free"
    return f"{worker.memory_gb:.1f} GB{free}"


def verdict(worker: Worker) -> str:
    return " ".join(reason["message"] for reason in worker.reasons or ()) or "yes"


def doing(worker: Worker) -> str:
    if not worker.online:
        return "offline"
    if worker.draining or worker.busy:
        return "draining" if worker.draining else "busy"
    return "out of disk" if worker.disk_full else "idle"

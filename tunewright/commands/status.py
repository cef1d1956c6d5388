"""Defines `tunewright status` and `tunewright support-bundle`, for operators of a server."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tunewright import Client, Worker
from tunewright.commands.options import AsJson
from tunewright.commands.support_bundle import write_support_bundle
from tunewright.display import console, print_facts, print_json
from tunewright.wire import Queues, Readiness

LATE_SECONDS = 10.0
"""A dispatcher that is not overloaded sends a wake-up within a second."""
IDLE_WITHOUT = {"training": "none online: jobs wait", "light": "none online: datasets wait for their inspection"}


def status(as_json: AsJson = False) -> None:
    """Show whether every part of the server responds, and how much work is waiting. Exits with 1 if something is
    missing."""
    with Client() as client:
        about, ready = client.about(), client.readiness()
        works = ready.database == "ok"
        # Without the database the key cannot be checked.
        queues = client.queues() if works else None
        workers = [worker for worker in client.workers() if worker.online] if works else []
    faults = faults_of(ready, queues)
    if as_json:
        told: dict[str, Any] = {"version": about.version, "ok": not faults, **ready.raw}
        print_json(told | {"queues": queues and queues.raw, "online_workers": [each.raw for each in workers]})
    else:
        console.print(f"{about.name} {about.version}: " + ("everything answers" if not faults else "; ".join(faults)))
        print_facts(facts(ready, queues, workers))
    if faults:
        raise typer.Exit(1)


def faults_of(ready: Readiness, queues: Queues | None) -> list[str]:
    parts = {"the database": ready.database, "Redis": ready.redis}
    found = [f"{name} is {state}" for name, state in parts.items() if state != "ok"]
    found += [f"no {queue} worker is online" for queue, number in (ready.workers or {}).items() if not number]
    if queues and (queues.wakeups["oldest_seconds"] or 0) > LATE_SECONDS:
        found.append("the dispatcher is behind")
    return found


def facts(ready: Readiness, queues: Queues | None, workers: list[Worker]) -> dict[str, object]:
    told: dict[str, object] = {"database": ready.database, "redis": ready.redis}
    if queues is None:
        return told
    waits, age = queues.wakeups["count"], queues.wakeups["oldest_seconds"]
    told["dispatcher"] = f"{waits} wake-ups unsent, the oldest for {age:.0f} s" if waits else "ok"
    for queue, idle in IDLE_WITHOUT.items():
        serving = [worker for worker in workers if queue in worker.queues]
        told[f"{queue} workers"] = counted(serving) if serving else idle
    told["jobs"] = f"{queues.training['queued']:,} queued, {queues.training['running']:,} running"
    told["light work"] = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in queues.light.items())
    return told


def counted(workers: list[Worker]) -> str:
    states = {
        "busy": sum(worker.busy for worker in workers),
        "draining": sum(worker.draining for worker in workers),
        "out of disk": sum(worker.disk_full for worker in workers),
    }
    return ", ".join([f"{len(workers)} online", *(f"{number} {state}" for state, number in states.items() if number)])


def support_bundle(
    job: Annotated[str, typer.Argument(help="The job's id, ftjob-….", metavar="JOB")],
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Where to [./JOB-support.zip].")] = None,
) -> None:
    """Write a zip file for finding out why a job failed.

    It contains the job's spec, events and log, its datasets' problems by code, the workers and the versions. It
    contains no row of a dataset and no secret."""
    with Client() as client:
        path = write_support_bundle(client, job, file or Path(f"{job}-support.zip"))
    console.print(str(path), soft_wrap=True)

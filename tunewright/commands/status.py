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
"""Is the age of a wake-up after which the dispatcher counts as late. Normally it sends one within a second."""
WITHOUT_WORKERS = {"training": "none online; jobs are waiting", "light": "none online; datasets are not inspected"}


def status(as_json: AsJson = False) -> None:
    """Show the state of the server's parts and queues. Exits with 1 if a part does not respond."""
    with Client() as client:
        about, ready = client.about(), client.readiness()
        has_database = ready.database == "ok"
        # Without the database the key cannot be checked.
        queues = client.queues() if has_database else None
        workers = [worker for worker in client.workers() if worker.online] if has_database else []
    faults = find_faults(ready, queues)
    if as_json:
        output: dict[str, Any] = {"version": about.version, "ok": not faults, **ready.raw}
        print_json(output | {"queues": queues and queues.raw, "online_workers": [each.raw for each in workers]})
    else:
        console.print(f"{about.name} {about.version}: " + ("all parts respond" if not faults else "; ".join(faults)))
        print_facts(describe_parts(ready, queues, workers))
    if faults:
        raise typer.Exit(1)


def find_faults(ready: Readiness, queues: Queues | None) -> list[str]:
    responding = {"the database": ready.database, "Redis": ready.redis}
    faults = [f"{name} is {state}" for name, state in responding.items() if state != "ok"]
    faults += [f"no {queue} worker is online" for queue, number in (ready.workers or {}).items() if not number]
    if queues and (queues.wakeups["oldest_seconds"] or 0) > LATE_SECONDS:
        faults.append("the dispatcher is late")
    return faults


def describe_parts(ready: Readiness, queues: Queues | None, workers: list[Worker]) -> dict[str, object]:
    parts: dict[str, object] = {"database": ready.database, "redis": ready.redis}
    if queues is None:
        return parts
    num_unsent, age = queues.wakeups["count"], queues.wakeups["oldest_seconds"]
    parts["dispatcher"] = f"{num_unsent} unsent wake-ups, the oldest {age:.0f} s old" if num_unsent else "ok"
    for queue, missing in WITHOUT_WORKERS.items():
        serving = [worker for worker in workers if queue in worker.queues]
        parts[f"{queue} workers"] = count_by_state(serving) if serving else missing
    parts["jobs"] = f"{queues.training['queued']:,} queued, {queues.training['running']:,} running"
    parts["light work"] = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in queues.light.items())
    return parts


def count_by_state(workers: list[Worker]) -> str:
    states = {
        "busy": sum(worker.busy for worker in workers),
        "draining": sum(worker.draining for worker in workers),
        "out of disk": sum(worker.disk_full for worker in workers),
    }
    return ", ".join([f"{len(workers)} online", *(f"{number} {state}" for state, number in states.items() if number)])


def support_bundle(
    job: Annotated[str, typer.Argument(help="The job's id, ftjob-….", metavar="JOB")],
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Target file [./JOB-support.zip].")] = None,
) -> None:
    """Write a zip file for diagnosing a job.

    It contains the job's spec, events and log, the problem counts of its datasets, the workers and the versions. It
    contains no row of a dataset and no secret."""
    with Client() as client:
        path = write_support_bundle(client, job, file or Path(f"{job}-support.zip"))
    console.print(str(path), soft_wrap=True)

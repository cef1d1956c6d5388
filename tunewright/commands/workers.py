"""`tunewright workers`"""

from tunewright import Client, Worker
from tunewright.commands.options import AsJson
from tunewright.display import instant, print_json, print_table


def list_workers(as_json: AsJson = False) -> None:
    """List the workers: their devices, and what they are doing."""
    with Client() as client:
        workers = client.workers()
    if as_json:
        return print_json([worker.raw for worker in workers])
    columns = {
        "id": lambda w: w.id,
        "is": doing,
        "serves": lambda w: ", ".join(w.queues),
        "device": lambda w: w.device_name or w.device,
        "memory": lambda w: f"{w.memory_gb:.1f} GB",
        "tunewright": lambda w: w.versions.get("tunewright", ""),
        "trackers": lambda w: ", ".join(w.integrations),
        "torch": lambda w: w.versions.get("torch", ""),
        "last seen": lambda w: instant(w.seen_at),
    }
    print_table(workers, columns)


def doing(worker: Worker) -> str:
    if not worker.online:
        return "offline"
    if worker.draining or worker.busy:
        return "draining" if worker.draining else "busy"
    return "out of disk" if worker.disk_full else "idle"

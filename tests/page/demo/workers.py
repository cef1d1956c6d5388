"""Enters the demonstration's workers. They exist only as rows: they claim nothing."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from app.db.tables import Worker
from app.domain.hardware import machine_fingerprint

ONLINE_FOR = timedelta(days=1)
VERSIONS = {"python": "3.11.9", "tunewright": "0.1.0", "torch": "2.13.0", "transformers": "5.4.0", "peft": "0.19.1",
            "bitsandbytes": "0.50.2", "tensorboardX": "2.6.4"}  # fmt: skip


class Machine(NamedTuple):
    device_name: str
    memory_gb: float
    free_memory_gb: float | None
    labels: Mapping[str, str]
    num_gpus: int = 1
    draining: bool = False
    silent_for: timedelta = timedelta(0)
    up_for: timedelta = timedelta(days=6, hours=4)


MACHINES: Mapping[str, Machine] = {
    "atlas-1-2214": Machine("NVIDIA GeForce RTX 4090", 25.28, 6.91, {"pool": "office", "gpu": "4090"}),
    "helios-3-871": Machine("NVIDIA A100-SXM4-80GB", 85.09, 42.77, {"pool": "datacenter", "gpu": "a100"}, num_gpus=4),
    "orion-1-1409": Machine("NVIDIA L4", 24.15, 10.02, {"pool": "cloud"}, up_for=timedelta(hours=31)),
    "orion-2-1377": Machine("NVIDIA L4", 24.15, 7.64, {"pool": "cloud"}, draining=True, up_for=timedelta(hours=31)),
    "titan-7-981": Machine("NVIDIA GeForce RTX 3090", 25.43, None, {"pool": "office", "gpu": "3090"},
                           silent_for=timedelta(hours=2, minutes=14)),
}  # fmt: skip


def facts_of(machine: Machine) -> dict[str, Any]:
    return {"engine": 1, "torch": "2.13.0", "device": "cuda", "gpu": machine.device_name, "triton": "3.7.0"}


def fingerprint_of(worker: str) -> str:
    return machine_fingerprint(facts_of(MACHINES[worker]))


def add_workers(session: Session, now: datetime) -> None:
    for id, machine in MACHINES.items():
        online_until = now - machine.silent_for + timedelta(seconds=60) if machine.silent_for else now + ONLINE_FOR
        session.add(
            Worker(
                id=id, device="cuda", device_name=machine.device_name, num_gpus=machine.num_gpus,
                memory_gb=machine.memory_gb, free_memory_gb=machine.free_memory_gb, labels=dict(machine.labels),
                versions=VERSIONS, queues=["training"], integrations=["tensorboard"], draining=machine.draining,
                machine_fingerprint=fingerprint_of(id), machine_facts=facts_of(machine),
                started_at=now - machine.up_for, seen_at=now - machine.silent_for, online_until=online_until,
            )
        )  # fmt: skip

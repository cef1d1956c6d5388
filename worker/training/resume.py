"""What must be the same for a resumed run to be, bit for bit, the uninterrupted one."""

import os
from typing import Any, Final

import torch
from pydantic.main import IncEx

from app.domain.job import FailureReason
from worker.training.channel import Channel
from worker.training.failure import TrainingFailed
from worker.training.protocol import Request
from worker.training.publish import library_versions
from worker.training.rows import warn

WITHOUT_EFFECT: Final[dict[str, IncEx | bool]] = {
    "dataset_id": True,  # the digest counts
    "validation_dataset_id": True,
    "resources": True,  # what they came to is in the plan
    "max_retries": True,
    "name": True,
    "suffix": True,
    "metadata": True,
    "priority": True,
    "training": {"save_every", "keep_checkpoints", "allow_inexact_resume"},
}
"""Fields of the spec that change no number of a training."""
ISA_VARIABLES: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Environment that makes the libraries under torch choose other kernels than the processor's best."""
MAX_NAMED: Final = 20


def fingerprint(request: Request, resolved: dict[str, Any]) -> dict[str, Any]:
    """By dotted name, so that a difference can be named. `resolved` is the plan in force."""
    facts = {
        "base_model": {"name": request.base_model, "revision": request.base_model_revision},
        "dataset_sha256": request.dataset_sha256,
        "validation_sha256": request.validation_sha256,
        "spec": request.spec.model_dump(mode="json", exclude=WITHOUT_EFFECT),
        "resolved": resolved,
        "libraries": library_versions() | {"cuda": torch.version.cuda},
        "machine": _machine(resolved["resources"]["device"]),
    }
    return _flat(facts)


def check_resumable(now: dict[str, Any], written: dict[str, Any], *, allow_inexact: bool, channel: Channel) -> None:
    """TrainingFailed that names what differs; where the spec allows that, an event instead."""
    changed = [name for name in sorted(now.keys() | written.keys()) if now.get(name) != written.get(name)]
    if not changed:
        return
    named = "; ".join(
        f"{name} was {written.get(name)!r:.80} and is {now.get(name)!r:.80}" for name in changed[:MAX_NAMED]
    )
    if len(changed) > MAX_NAMED:
        named += f"; and {len(changed) - MAX_NAMED} more"
    if allow_inexact:
        warn(channel, "inexact_resume", f"Training goes on from its checkpoint, but not bit for bit: {named}.")
        return
    raise TrainingFailed(
        FailureReason.inexact_resume,
        f"Going on from the checkpoint would not give what an uninterrupted training gives: {named}. Post the job "
        "anew, with training.allow_inexact_resume if that is good enough.",
    )


def _machine(device: str) -> dict[str, Any]:
    """What chooses the kernels: the device, the threads that share a sum, and what limits a CPU's instructions."""
    machine: dict[str, Any] = {"threads": torch.get_num_threads()}
    if device == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return machine | {"gpu": torch.cuda.get_device_name(), "cudnn": cudnn}
    machine |= {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "cpu_instructions": _cpu_instructions()}
    return machine | {name: os.environ.get(name) for name in ISA_VARIABLES}


def _cpu_instructions() -> str:
    """The extensions that oneDNN's kernels are chosen by."""
    probes = {
        "avx2": torch.cpu._is_avx2_supported,
        "avx512": torch.cpu._is_avx512_supported,
        "avx512_vnni": torch.cpu._is_vnni_supported,
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported,
        "amx_tile": torch.cpu._is_amx_tile_supported,
        "amx_fp16": torch.cpu._is_amx_fp16_supported,
    }
    return " ".join(name for name, is_supported in probes.items() if is_supported())


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat

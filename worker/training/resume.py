"""What must be the same for a resumed run to be, bit for bit, the uninterrupted one."""

from typing import Any, Final

from pydantic.main import IncEx

from app.domain.job import FailureReason
from worker.training.channel import Channel
from worker.training.failure import TrainingFailed
from worker.training.machine import library_versions, machine_facts
from worker.training.protocol import Request
from worker.training.rows import warn

WITHOUT_EFFECT: Final[dict[str, IncEx | bool]] = {
    "dataset_id": True,  # the digest counts
    "validation_dataset_id": True,
    "resources": True,  # what they came to is in the plan
    "max_retries": True,
    "max_duration_seconds": True,
    "name": True,
    "suffix": True,
    "metadata": True,
    "priority": True,
    "integrations": True,
    "training": {"save_every", "keep_checkpoints", "allow_inexact_resume"},
}
"""Fields of the spec that change no number of a training."""
MAX_NAMED: Final = 20


def fingerprint(request: Request, resolved: dict[str, Any]) -> dict[str, Any]:
    """By dotted name, so that a difference can be named. `resolved` is the plan in force."""
    facts = {
        "base_model": {"name": request.base_model, "revision": request.base_model_revision},
        "dataset_sha256": request.dataset_sha256,
        "validation_sha256": request.validation_sha256,
        "spec": request.spec.model_dump(mode="json", exclude=WITHOUT_EFFECT),
        "resolved": resolved,
        "libraries": library_versions(),
        "machine": machine_facts(resolved["resources"]["device"]),
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


def plan_of(written: dict[str, Any]) -> dict[str, Any]:
    """The plan in force when a fingerprint was taken, as `resolved` has it."""
    plan: dict[str, Any] = {}
    for name, value in written.items():
        top, *path = name.split(".")
        if top == "resolved":
            plan.setdefault(path[0], {})[path[1]] = value
    return plan


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat

"""Decides whether a resumed training is, bit for bit, the uninterrupted one, and what to do if it is not.

A fingerprint has three parts: which weights and rows (`base_model`, the digests), where no difference is accepted; what
is computed (`spec`, `resolved`); and on what (`machine`).
"""

from typing import Any, Final, NoReturn

from pydantic.main import IncEx

from app.domain.hardware import machine_fingerprint
from app.domain.jobs.resuming import Difference, InexactResume
from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import FailureReason
from worker.training.checkpoint.checkpoint import LoadedCheckpoint
from worker.training.data.dataset import warn
from worker.training.model.device import kernel_facts
from worker.training.runtime.channel import Channel
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest
from worker.training.runtime.numerics import machine_facts

WITHOUT_EFFECT: Final[dict[str, IncEx | bool]] = {
    "dataset_id": True,  # the digest counts
    "validation_dataset_id": True,
    "resources": True,  # their effect is in the plan
    "max_retries": True,
    "max_duration_seconds": True,
    "name": True,
    "suffix": True,
    "metadata": True,
    "priority": True,
    "integrations": True,
    "training": {"save_every", "save_every_seconds", "keep_checkpoints", "on_inexact_resume"},
}
"""Lists the spec's fields that change no number of a training."""
IDENTITY: Final = ("base_model.", "dataset_sha256", "validation_sha256")
"""Lists prefixes of the facts that differ between two separate trainings."""
PLANNED: Final = ("spec.training.gradient_checkpointing", "spec.training.memory")
"""Lists the spec's fields that decide the plan. A retry that changes one needs another plan than the checkpoint's."""
MAX_NAMED: Final = 20
MAX_SHOWN: Final = 80


def fingerprint(request: TrainingRequest, resolved: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint by dotted name, so that a difference can be named. `resolved` is the plan in force."""
    device = resolved["resources"]["device"]
    facts = {
        "base_model": {"name": request.base_model, "revision": request.base_model_revision},
        "dataset_sha256": request.dataset_sha256,
        "validation_sha256": request.validation_sha256,
        "spec": effective_spec(request.spec),
        "resolved": resolved,
        "machine": get_machine_facts(request, device) | kernel_facts(device),
    }
    return _flat(facts)


def effective_spec(spec: JobSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude=WITHOUT_EFFECT)


def get_machine_facts(request: TrainingRequest, device: str) -> dict[str, Any]:
    """Return the machine facts that the worker published, or this process's if the training runs on another device."""
    published = request.machine_facts
    if published is not None and published["device"] == device:
        return published
    return machine_facts(device, request.threads)


def get_machine_fingerprint(request: TrainingRequest, device: str) -> str:
    return machine_fingerprint(get_machine_facts(request, device))


def check_resumable(
    request: TrainingRequest, resolved: dict[str, Any], checkpoint: LoadedCheckpoint, channel: Channel
) -> list[InexactResume]:
    """Return the inexact resumes so far: none if the training is, bit for bit, the uninterrupted one. Raises
    TrainingFailed if the checkpoint is another training's, or if the spec accepts only an exact resume."""
    earlier = [InexactResume.model_validate(resume) for resume in checkpoint.state["inexact_resumes"]]
    differs = differences(fingerprint(request, resolved), checkpoint.fingerprint, request.spec)
    if not differs:
        return earlier
    if any(name.startswith(IDENTITY) for name in differs):
        raise TrainingFailed(
            FailureReason.checkpoint_unusable,
            f"The checkpoint was written for a different base model or dataset: {describe_differences(differs)}. "
            'Retry the job from "start".',
        )
    if request.spec.training.on_inexact_resume != "continue" and not comes_from_retry(differs):
        _refuse_inexact_resume(differs)
    step = checkpoint.state["position"]["step"]
    changes = describe_differences(differs)
    warn(channel, "inexact_resume", f"Training resumes after step {step}, but not bit for bit: {changes}.")
    return [*earlier, InexactResume(step=step, differs=differs)]


def _refuse_inexact_resume(differs: dict[str, Difference]) -> NoReturn:
    raise TrainingFailed(
        FailureReason.inexact_resume,
        f"The checkpoint cannot be resumed bit for bit: {describe_differences(differs)}. Retry the job from "
        '"last_checkpoint" on a machine like the first one, or set training.on_inexact_resume to "continue".',
    )


def differences(now: dict[str, Any], written: dict[str, Any], spec: JobSpec) -> dict[str, Difference]:
    """Return the differences by name. A spec field at its default that the writer did not know yet is no difference."""
    known = now.keys() | written.keys()
    new = {name for name in now.keys() - written.keys() if name in _defaults(spec)}
    return {
        name: Difference(before=_shown(written.get(name)), now=_shown(now.get(name)))
        for name in sorted(known - new)
        if now.get(name) != written.get(name)
    }


def comes_from_retry(differs: dict[str, Difference]) -> bool:
    """Say whether all differences come from a retry's changes, and none from the machine."""
    replanned = any(name in differs for name in PLANNED)
    return all(name.startswith("spec.") or (replanned and name.startswith("resolved.")) for name in differs)


def describe_differences(differs: dict[str, Difference]) -> str:
    changes = [f"{name} was {each.before!r:.80} and is {each.now!r:.80}" for name, each in differs.items()]
    more = [f"and {len(changes) - MAX_NAMED} more"] if len(changes) > MAX_NAMED else []
    return "; ".join(changes[:MAX_NAMED] + more)


def earlier_plan(request: TrainingRequest, written: dict[str, Any]) -> dict[str, Any] | None:
    """Return the plan in force when a fingerprint was taken, in the form of `resolved`. Returns None if the spec now
    needs another."""
    wanted = _flat({"spec": effective_spec(request.spec)})
    if any(name in written and wanted.get(name) != written[name] for name in PLANNED):
        return None
    plan: dict[str, Any] = {}
    for name, value in written.items():
        top, *path = name.split(".")
        if top == "resolved":
            plan.setdefault(path[0], {})[path[1]] = value
    return plan


def _defaults(spec: JobSpec) -> set[str]:
    """Return the names of fields that are at their default."""
    given = spec.model_dump(mode="json", exclude=WITHOUT_EFFECT, exclude_defaults=True)
    return _flat({"spec": effective_spec(spec)}).keys() - _flat({"spec": given}).keys()


def _shown(value: Any) -> Any:
    return value if len(repr(value)) <= MAX_SHOWN or not isinstance(value, str | list) else f"{value!r:.{MAX_SHOWN}}"


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat

"""Defines what a retry may change of the spec of the job that it repeats."""

from typing import Any, Final

from app.db.tables import Checkpoint
from app.domain.jobs.spec import JobSpec
from app.errors import FieldError

FIXED: Final = (
    *("base_model", "dataset_id", "validation_dataset_id", "validation_split", "on_bad_rows"),
    *("method", "objective", "quantization", "init_from", "training.seed"),
    *(f"adapter.{name}" for name in ("rank", "alpha", "target_modules", "use_rslora", "use_dora", "init")),
)
"""Lists the fields on which the meaning of a checkpoint's state depends: weights, the optimizer's state, and which rows
come next."""
FIXED_FOR_DPO: Final = ("training.max_seq_len",)
"""Lists further fields for DPO: the checkpoint stores the reference of each pair as it was truncated."""


def apply_changes(spec: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the spec with the changes merged in (RFC 7396: null resets a field to its default). Giving one of `epochs`
    and `max_steps` removes the other."""
    lengths, training = ("epochs", "max_steps"), changes.get("training")
    if isinstance(training, dict):
        given = [name for name in lengths if training.get(name) is not None]
        if len(given) == 1:
            changes = changes | {"training": dict.fromkeys(lengths) | training}
    merged: dict[str, Any] = _merge(spec, changes)
    return merged


def _merge(base: Any, over: Any) -> Any:
    if not isinstance(over, dict):
        return over
    kept = base if isinstance(base, dict) else {}
    merged = kept | {name: _merge(kept.get(name), value) for name, value in over.items() if value is not None}
    return {name: value for name, value in merged.items() if name not in over or over[name] is not None}


def check_loadable(old: JobSpec, new: JobSpec, checkpoint: Checkpoint) -> list[FieldError]:
    """Return an error for each change with which the job could not resume from the checkpoint."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    names = FIXED + (FIXED_FOR_DPO if old.objective == "dpo" else ())
    errors = [
        _report_fixed_field(name, was) for name in names if (was := _get_value(before, name)) != _get_value(after, name)
    ]
    steps = new.training.max_steps
    if steps is not None and steps <= checkpoint.step:
        message = f"The checkpoint is already at step {checkpoint.step}; set max_steps higher."
        errors.append(FieldError("/training/max_steps", "before_checkpoint", message))
    return errors


def _report_fixed_field(name: str, was: Any) -> FieldError:
    message = f'The checkpoint was saved with {was!r:.200}; remove this change, or retry the job from "start".'
    return FieldError("/" + name.replace(".", "/"), "fixed_by_checkpoint", message)


def _get_value(spec: dict[str, Any], name: str) -> Any:
    part, _, field = name.partition(".")
    found = spec[part]
    return found.get(field) if field and isinstance(found, dict) else found

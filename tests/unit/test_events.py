"""Checks the closed union of job events."""

import ast
from pathlib import Path
from string import Formatter
from typing import get_args

from app.domain.events.job_events import JobClaimed, JobEvent, WarningIssued

ROOT = Path(__file__).parents[2]


def test_every_event_is_emitted_somewhere() -> None:
    sources = [path.read_text() for folder in ("app", "worker") for path in (ROOT / folder).rglob("*.py")]
    calls = [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    made = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    union, _ = get_args(JobEvent)
    assert {event.__name__ for event in get_args(union)} - made == set()


def test_templates_name_fields_of_their_events() -> None:
    """A wrong name would be noticed only when the event is stored."""
    union, _ = get_args(JobEvent)
    for event in get_args(union):
        if "message" not in vars(event):
            named = {name for _, name, _, _ in Formatter().parse(event.template) if name is not None}
            assert named <= event.model_fields.keys(), event.__name__


def test_a_template_is_filled_with_the_event() -> None:
    claimed = JobClaimed(attempt=2, worker="w-7")
    assert claimed.message == "Worker w-7 claimed the job (attempt 2)."
    assert WarningIssued(code="checkpoint_lost", detail="Lost {step}.").message == "Lost {step}."

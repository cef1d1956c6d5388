"""The closed union of job events."""

import ast
from pathlib import Path
from typing import get_args

from app.domain.events.job_events import JobEvent

ROOT = Path(__file__).parents[2]


def test_every_event_is_emitted_somewhere() -> None:
    sources = [path.read_text() for room in ("app", "worker") for path in (ROOT / room).rglob("*.py")]
    calls = [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    made = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    union, _ = get_args(JobEvent)
    assert {event.__name__ for event in get_args(union)} - made == set()

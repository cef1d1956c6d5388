"""Hooks that Schemathesis loads into its process: they make specs that may be accepted, and count the answers.

The counts of each operation's statuses and of the followed links go to the file that TALLY names.
"""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final

import schemathesis
import schemathesis.cli
from hypothesis import strategies as st
from schemathesis import HookContext
from schemathesis.cli import EventHandler
from schemathesis.engine.events import EngineEvent, EngineFinished, ScenarioFinished
from schemathesis.engine.recorder import RecordedScenario

TALLY: Final = "TUNEWRIGHT_FUZZ_TALLY"
NEEDED: Final = {
    "POST /jobs": ("base_model", "dataset_id", "training"),
    "POST /fine_tuning/jobs": ("model", "training_file"),
}


@schemathesis.hook
def flatmap_body(context: HookContext, body: object) -> st.SearchStrategy[object]:
    """Keep only a few optional fields in half of the specs: of many random ones, one is always refused."""
    label = context.operation.label if context.operation else ""
    if label not in NEEDED or not isinstance(body, dict):
        return st.just(body)
    return st.just(body) | few_fields(body, NEEDED[label])


@schemathesis.hook
def map_query(context: HookContext, query: Any) -> Any:
    """Limit the wait for a change to a second: longer waits would leave time for few other requests."""
    if isinstance(query, dict) and isinstance(query.get("wait"), int) and query["wait"] > 1:
        return query | {"wait": 1}
    return query


@st.composite
def few_fields(draw: st.DrawFn, body: dict[str, Any], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    others = sorted(body.keys() - needed)
    names = draw(st.lists(st.sampled_from(others), max_size=2, unique=True)) if others else []
    kept = {name: value for name, value in body.items() if name in needed or name in names}
    if isinstance(training := kept.get("training"), dict):
        kept["training"] = draw(few_fields({**training, "epochs": None})) | {"max_steps": 2}
    return kept


@schemathesis.cli.handler()
class Tally(EventHandler[Any]):
    def __init__(self, *_: Any, **__: Any) -> None:
        self.statuses: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.links: Counter[str] = Counter()

    def handle_event(self, ctx: Any, event: EngineEvent) -> None:
        if isinstance(event, ScenarioFinished):
            self._count(event.recorder)
        elif isinstance(event, EngineFinished):
            counts = {"statuses": self.statuses, "links": self.links}
            Path(os.environ[TALLY]).write_text(json.dumps(counts), encoding="utf-8")

    def _count(self, recorder: RecordedScenario) -> None:
        for id, interaction in recorder.interactions.items():
            node = recorder.cases.get(id)
            # A request by a check, or one with a method that the operation does not have.
            if node is None or interaction.response is None or node.value.method != node.value.operation.method.upper():
                continue
            self.statuses[node.value.operation.label][interaction.response.status_code] += 1
            if node.transition is not None and node.is_transition_applied:
                self.links[node.transition.id] += 1

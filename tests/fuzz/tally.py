"""Counts, in Schemathesis' own process, what each operation has answered and which links were followed.

Schemathesis loads this file as its hooks; what was counted goes to the file that TALLY names.
"""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import schemathesis.cli
from schemathesis.cli import EventHandler
from schemathesis.engine.events import EngineEvent, EngineFinished, ScenarioFinished
from schemathesis.engine.recorder import RecordedScenario

TALLY = "TUNEWRIGHT_FUZZ_TALLY"


@schemathesis.cli.handler()
class Tally(EventHandler[Any]):
    def __init__(self, *_: Any, **__: Any) -> None:
        self.statuses: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.links: Counter[str] = Counter()

    def handle_event(self, ctx: Any, event: EngineEvent) -> None:
        if isinstance(event, ScenarioFinished):
            self._count(event.recorder)
        elif isinstance(event, EngineFinished):
            told = {"statuses": self.statuses, "links": self.links}
            Path(os.environ[TALLY]).write_text(json.dumps(told), encoding="utf-8")

    def _count(self, recorder: RecordedScenario) -> None:
        for id, interaction in recorder.interactions.items():
            node = recorder.cases.get(id)
            # A check's own request, or a try of a method that the operation does not have.
            if node is None or interaction.response is None or node.value.method != node.value.operation.method.upper():
                continue
            self.statuses[node.value.operation.label][interaction.response.status_code] += 1
            if node.transition is not None and node.is_transition_applied:
                self.links[node.transition.id] += 1

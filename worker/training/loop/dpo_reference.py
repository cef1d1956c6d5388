"""Computes DPO's reference: the model's log-probability of each answer when the job began.

The reference is the policy itself, before its first step and without dropout: the base model where the adapter is fresh
(its B is zero, or its content was split from the base), the frozen starting adapter where the job continues one, the
untouched weights where all are trained. So one pass before the first step is enough, and no second model is needed.
Every checkpoint stores the result, since the first step changes the policy.
"""

import time
from collections.abc import Callable, Iterator

import torch

from app.domain.events.job_events import ReferenceComputed
from worker.training.data.dataset import Examples, Rows
from worker.training.data.packing import MicroBatch, pack
from worker.training.loop.objectives import log_probs
from worker.training.model.loading import Model
from worker.training.rows.sampler import BatchSampler
from worker.training.runtime.errors import not_finite

GROUP = 64
"""Is the number of rows that are packed together. The groups do not depend on where a pass was interrupted, so that a
continued pass gives the same bits."""
REPORT_SECONDS = 60.0

Report = Callable[[ReferenceComputed], None]


class ReferencePass:
    """Computes `references` of a training's rows: the validation rows, and the rows that its steps will take."""

    def __init__(self, model: Model, rows: Rows, epochs: BatchSampler, total_steps: int):
        self._model = model
        self._parts = [
            (rows.training, rows_of_steps(epochs, total_steps)),
            (rows.validation, list(range(len(rows.validation)))),
        ]
        self._groups = [
            (part, wanted[start : start + GROUP])
            for part, wanted in self._parts
            for start in range(0, len(wanted), GROUP)
        ]

    @property
    def num_rows(self) -> int:
        return sum(len(wanted) for _, wanted in self._parts)

    @property
    def num_done(self) -> int:
        return sum(int(part.references[wanted].isfinite().all(1).sum()) for part, wanted in self._parts)

    @torch.no_grad()
    def compute(self, watch: Callable[[MicroBatch], None], report: Report) -> None:
        """Continue the pass. `watch` receives each micro-batch before it is computed, and may raise."""
        started = reported_at = time.monotonic()
        self._model.causal.eval()
        try:
            for part, group in self._missing():
                self._fill(part, group, watch)
                if time.monotonic() - reported_at > REPORT_SECONDS:
                    reported_at = time.monotonic()
                    report(self._progress(reported_at - started))
        finally:
            self._model.causal.train()
        report(self._progress(time.monotonic() - started))

    def _missing(self) -> Iterator[tuple[Examples, list[int]]]:
        for part, group in self._groups:
            if not part.references[group].isfinite().all():
                yield part, group

    def _fill(self, part: Examples, group: list[int], watch: Callable[[MicroBatch], None]) -> None:
        places = {part[place].line: place for place in group}
        for batch in pack([part[place] for place in group], self._model.micro_batch_tokens):
            watch(batch)
            losses, _ = self._model.losses(batch)
            losses = losses.cpu()
            finite = torch.isfinite(losses)
            if not finite.all():
                raise not_finite("reference's loss", 1, batch.lines_of(~finite))
            found = log_probs(batch, losses)
            part.references[[places[row.line] for row in batch.rows]] = found

    def _progress(self, seconds: float) -> ReferenceComputed:
        return ReferenceComputed(num_done=self.num_done, num_rows=self.num_rows, seconds=round(seconds, 3))


def rows_of_steps(epochs: BatchSampler, total_steps: int) -> list[int]:
    """Return the rows that a training of so many steps takes, in order."""
    rows: set[int] = set()
    for step in range(1, min(total_steps, epochs.steps_per_epoch) + 1):
        rows.update(epochs.rows(step))
    return sorted(rows)

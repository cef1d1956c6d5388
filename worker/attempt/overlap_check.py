"""Compares a job's training and validation datasets for rows that are in both, in parallel with the training.

The result is only a warning: a comparison that fails is logged by the worker and changes nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from app.db.tables import Dataset
from app.domain.events.job_events import ValidationOverlap
from app.jobs.attempts.service import AttemptService
from app.storage import FAILURES, Storage
from worker.inspection.overlap import fetch_hashes, find_overlap

log = structlog.get_logger()

SHOWN_PAIRS = 10
Write = Callable[[Callable[[AttemptService], None], str], Any]


def warn_of_overlap(storage: Storage, folder: Path, training: Dataset, validation: Dataset, write: Write) -> None:
    """Compare the datasets, and record an event if they overlap.

    `folder` must exist and receives temporary files; `write` records the event."""
    assert training.hashes_key is not None
    assert validation.hashes_key is not None
    try:
        ours = fetch_hashes(storage, training.hashes_key, folder / "training.hashes")
        theirs = fetch_hashes(storage, validation.hashes_key, folder / "validation.hashes")
        totals, pairs = find_overlap(ours, theirs, SHOWN_PAIRS)
    except FAILURES as error:
        log.warning("could not compare a job's datasets", dataset=training.id, error=str(error)[:300])
        return
    if totals.num_normalised:
        event = ValidationOverlap(**totals.model_dump(), pairs=pairs)
        write(lambda attempt: attempt.append_event_once(event), "append_event")

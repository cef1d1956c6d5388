"""Provides preferences that a tiny model learns, and requests to train on them."""

import json
from pathlib import Path
from typing import Any

from app.domain.jobs.spec import JobSpec
from tests.unit.training.conftest import make_spec

COLOURS = ("red", "green", "blue")


def write_pairs(path: Path, num_rows: int = 24) -> Path:
    """Write pairs of texts. In each the longer answer is the better one; some are longer than the tiny models'
    sliding window."""
    rows = [
        {
            "prompt": f"Ticket {number}: " + "the printer " * (number % 4),
            "chosen": f"is {COLOURS[number % 3]} and late " * (1 + number % 2),
            "rejected": COLOURS[(number + 1) % 3] + " no" * (number % 3),
        }
        for number in range(num_rows)
    ]
    return write(path, rows)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_dpo(method: str = "lora", **changes: Any) -> JobSpec:
    return make_spec(method, objective="dpo", **changes)

"""`step_metrics.csv` holds the curves of all attempts, a line for each step."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.db.session import Sessions, transaction
from app.domain.metric import MetricPoint
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.metrics import step_metrics
from worker.attempt.metrics.step_metrics import write_step_metrics

Take = Callable[..., Claim]


def record(sessions: Sessions, claim: Claim, start: int, values: list[tuple[int, dict[str, float]]]) -> None:
    with transaction(sessions) as session:
        service = AttemptService(session, claim)
        service.plan({}, 9, start)
        points = [
            MetricPoint(attempt=claim.attempt, number=number, step=step, measured_at=datetime.now(UTC), values=each)
            for number, (step, each) in enumerate(values, 1)
        ]
        service.record(points, None)


@pytest.mark.parametrize("window", [2, 50_000])
def test_the_file_has_a_line_for_each_step(
    window: int,
    sessions: Sessions,
    post: Callable[..., str],
    claim: Take,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values that an attempt measured after the step from which the next one resumed are left out."""
    monkeypatch.setattr(step_metrics, "WINDOW_STEPS", window)
    post()
    first = claim()
    validated = {"validation_loss": 0.5, "validation_token_accuracy": 0.75}
    measured = [(step, {"loss": 1 / step, "learning_rate": 0.1}) for step in (1, 2, 3, 4)]
    record(sessions, first, 0, [*measured, (2, validated)])
    with transaction(sessions) as session:
        AttemptService(session, first).release()
    second = claim()
    record(sessions, second, 2, [(3, {"loss": 0.25}), (7, {"validation_loss": 0.125})])
    path = tmp_path / "step_metrics.csv"
    write_step_metrics(path, FencedWriter(sessions, second, 60, lambda: False), second)
    assert path.read_text().splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,1,,,",
        "2,0.5,,0.5,0.75",
        "3,0.25,,,",
        "7,,,0.125,",
    ]


def test_without_points_the_file_has_only_its_header(
    sessions: Sessions, post: Callable[..., str], claim: Take, tmp_path: Path
) -> None:
    post()
    held = claim()
    write_step_metrics(tmp_path / "x.csv", FencedWriter(sessions, held, 60, lambda: False), held)
    assert (tmp_path / "x.csv").read_text().count("\n") == 1

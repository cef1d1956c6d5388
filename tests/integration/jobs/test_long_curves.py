"""Long curves of three attempts, up to a quarter of a million values, compared with a curve's plain definition."""

import csv
import io
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.db.session import Sessions, transaction
from app.domain.jobs.state import FailureReason
from app.domain.metric import MetricPoint
from app.errors import JobNotFound
from app.jobs.attempts.service import AttemptService
from app.jobs.metrics import csv_export
from app.jobs.metrics.buckets import WIDTHS, bucket_statements
from app.jobs.metrics.repository import MetricRepository
from app.jobs.queue.repository import Claim
from app.jobs.service import JobService
from tunewright import Client, TunewrightError

BATCH = 20_000
SHORT = ((0, 6_000), (4_123, 9_000), (7_012, 15_000))
"""For each attempt, the step from which it resumes and its last step."""
LONG = ((0, 60_000), (41_237, 90_000), (70_123, 150_000))
SPIKES = range(1_000, 150_000, 5_000)
Attempts = tuple[tuple[int, int], ...]


def at(step: int) -> datetime:
    return datetime(2026, 1, 5, 10, tzinfo=UTC) + timedelta(seconds=step)


class Measured(NamedTuple):
    attempt: int
    value: float


class Long(NamedTuple):
    job_id: str
    curves: dict[str, dict[int, Measured]]
    """The values of each curve, by name and step."""


def values_at(step: int, start: int, draw: random.Random) -> dict[str, float]:
    spike = {1_000: 50.0, 6_000: -50.0}.get(step % 10_000, 0.0) if step in SPIKES else 0.0
    values = {"loss": math.exp(-step / 50_000) + draw.gauss(0, 0.1) + spike}
    if step % 3 == 0:
        values["grad_norm"] = draw.expovariate(1)
    if step % 500 == 0:
        values["validation_loss"] = draw.random()
    # An attempt that resumes after an interrupted evaluation evaluates before it trains.
    return {"validation_loss": draw.random()} if step == start else values


@pytest.fixture
def train(
    sessions: Sessions, project_id: str, post: Callable[..., str], claim: Callable[..., Claim]
) -> Callable[[Attempts], Long]:
    """Store the metrics of a job with these attempts, as its workers would."""

    def train(attempts: Attempts) -> Long:
        draw = random.Random(4)
        id, curves = post(), dict[str, dict[int, Measured]]()
        for attempt, (start, last) in enumerate(attempts, 1):
            held = claim()
            curves = {
                name: {step: one for step, one in curve.items() if step <= start} for name, curve in curves.items()
            }
            points = [
                MetricPoint(
                    attempt=attempt, number=number, step=step, measured_at=at(step), values=values_at(step, start, draw)
                )
                for number, step in enumerate(range(start or 1, last + 1), 1)
            ]
            for point in points:
                for name, value in point.values.items():
                    curves.setdefault(name, {})[point.step] = Measured(attempt, value)
            with transaction(sessions) as session:
                AttemptService(session, held).plan({}, total_steps=last, start_step=start)
                for first in range(0, len(points), BATCH):
                    # The last points of a batch are sent again with the next one.
                    MetricRepository(session).add(project_id, id, points[max(first - 100, 0) : first + BATCH])
                AttemptService(session, held).release()
        return Long(id, {name: dict(sorted(curve.items())) for name, curve in curves.items()})

    return train


def within(long: Long, names: list[str], first: int, last: int) -> dict[str, dict[int, float]]:
    return {
        name: {step: one.value for step, one in long.curves[name].items() if first <= step <= last} for name in names
    }


def shown_in(items: list[dict[str, Any]], long: Long) -> dict[str, dict[int, float]]:
    """Return the items' values by name and step; an item's attempt must be the latest one of its values."""
    shown: dict[str, dict[int, float]] = {}
    for item in items:
        assert item["attempt"] == max(long.curves[name][item["step"]].attempt for name in item["values"])
        for name, value in item["values"].items():
            assert item["step"] not in shown.setdefault(name, {})
            shown[name][item["step"]] = value
    return shown


def test_any_range_is_downsampled_to_measured_points_with_its_extremes(
    api: TestClient, train: Callable[[Attempts], Long]
) -> None:
    long, draw = train(LONG), random.Random(5)
    whole = api.get(f"/jobs/{long.job_id}/metrics", params={"names": "loss"}).json()
    assert whole["downsampled"]
    assert 1_500 < len(whole["items"]) <= 2_000
    assert set(SPIKES) <= {item["step"] for item in whole["items"]}
    ranges = [(0, 10**9), (41_237, 41_237), (0, 1_999), (0, 2_001), (70_123, 70_124)]
    ranges += [(first := draw.randrange(160_000), first + int(10 ** draw.uniform(0, 5.2))) for _ in range(40)]
    for first, last in ranges:
        names = draw.sample(sorted(long.curves), draw.randint(1, 3))
        most = draw.choice([20, 77, 500, 2000])
        asked = {"names": names, "from_step": first, "to_step": last, "max_points": most}
        body = api.get(f"/jobs/{long.job_id}/metrics", params=asked).json()
        wanted = {name: curve for name, curve in within(long, names, first, last).items() if curve}
        shown = shown_in(body["items"], long)
        assert len(body["items"]) <= most
        steps = [item["step"] for item in body["items"]]
        assert steps == sorted(set(steps))
        assert body["downsampled"] == (len({step for curve in wanted.values() for step in curve}) > most)
        assert shown.keys() == wanted.keys()
        if not body["downsampled"]:
            assert shown == wanted
        for name, curve in wanted.items():
            assert shown[name].items() <= curve.items()
            assert min(shown[name].values()) == min(curve.values())
            assert max(shown[name].values()) == max(curve.values())


def test_pages_hold_every_point(api: TestClient, train: Callable[[Attempts], Long]) -> None:
    long, after, items = train(SHORT), 3_999, []
    while after is not None:
        page = api.get(f"/jobs/{long.job_id}/metrics", params={"after_step": after, "limit": 1_333}).json()
        assert len(page["items"]) == 1_333 or page["next_after_step"] is None
        assert not page["downsampled"]
        items += page["items"]
        after = page["next_after_step"]
    wanted = within(long, sorted(long.curves), 4_000, 15_000)
    assert shown_in(items, long) == wanted


def test_pages_and_ranges_do_not_mix(api: TestClient, post: Callable[..., str]) -> None:
    answer = api.get(f"/jobs/{post()}/metrics", params={"after_step": 3, "max_points": 100})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_the_migration_builds_the_buckets_that_arriving_values_build(
    sessions: Sessions, train: Callable[[Attempts], Long]
) -> None:
    train(SHORT)
    every = text("SELECT * FROM metric_buckets ORDER BY job_id, attempt, name, width, start")
    with transaction(sessions) as session:
        built = session.execute(every).all()
        assert {row.width for row in built} == set(WIDTHS)
        session.execute(text("TRUNCATE metric_buckets"))
        for statement in bucket_statements():
            session.execute(text(statement))
        assert session.execute(every).all() == built
        counted = session.execute(text("SELECT width, sum(num_values) FROM metric_buckets GROUP BY width")).all()
        total = session.scalar(text("SELECT count(*) FROM metric_values"))
    assert dict(map(tuple, counted)) == dict.fromkeys(WIDTHS, total)


def test_exports_hold_every_value(
    api: TestClient, train: Callable[[Attempts], Long], sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_export, "WINDOW_STEPS", 1_000)
    long = train(SHORT)
    path = f"/jobs/{long.job_id}/metrics"
    wanted = [
        {"name": name, "step": step, "value": found.value, "attempt": found.attempt}
        for name, curve in sorted(long.curves.items())
        for step, found in curve.items()
    ]
    answer = api.get(f"{path}.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(answer.text.splitlines()))
    kinds = {"name": str, "step": int, "value": float, "attempt": int}
    assert [{key: kind(row[key]) for key, kind in kinds.items()} for row in rows] == wanted
    assert rows[0]["measured_at"] == at(wanted[0]["step"]).strftime("%Y-%m-%dT%H:%M:%S.000000Z")

    file = pyarrow.parquet.ParquetFile(io.BytesIO(api.get(f"{path}.parquet").content))
    table = file.read()
    assert table.select(list(kinds)).to_pylist() == wanted
    assert table["measured_at"][0].as_py() == at(wanted[0]["step"])
    assert file.num_row_groups == 1

    some = api.get(f"{path}.csv", params={"names": "validation_loss", "all_attempts": True}).text.splitlines()
    rewound = [row for row in csv.DictReader(some) if row["attempt"] == "1" and int(row["step"]) > SHORT[1][0]]
    assert len(rewound) == 6_000 // 500 - 4_123 // 500
    with transaction(sessions) as session:
        stored = session.scalar(text("SELECT count(*) FROM metric_values WHERE name = 'validation_loss'"))
    assert len(some) - 1 == stored


def test_the_client_reads_curves_and_downloads_them(
    live_server: str, make_key: Callable[..., str], train: Callable[[Attempts], Long], tmp_path: Path
) -> None:
    long, names = train(SHORT), ["loss", "grad_norm"]
    with Client(live_server, make_key()) as client:
        few = client.curves(long.job_id, names, from_step=100, to_step=12_000, max_points=50)
        assert 25 < len(few) <= 50
        assert all(100 <= point.step <= 12_000 and point.values.keys() <= set(names) for point in few)
        every = list(client.metrics(long.job_id, names))
        assert shown_in([point.raw for point in every], long) == within(long, names, 0, 15_000)
        path = client.download_metrics(long.job_id, tmp_path / "new" / "curves.csv", names)
        assert len(path.read_text().splitlines()) == 1 + sum(len(point.values) for point in every)
        path = client.download_metrics(long.job_id, tmp_path / "curves.parquet", names, all_attempts=True)
        assert pyarrow.parquet.read_table(path).num_rows > sum(len(point.values) for point in every)
        with pytest.raises(TunewrightError, match=r"ends in \.csv or \.parquet"):
            client.download_metrics(long.job_id, tmp_path / "curves.xlsx")
    assert sorted(path.name for path in tmp_path.rglob("curves*")) == ["curves.csv", "curves.parquet"]


def test_an_export_whose_job_is_deleted_stops_with_an_error(
    sessions: Sessions,
    project_id: str,
    post: Callable[..., str],
    claim: Callable[..., Claim],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_export, "WINDOW_STEPS", 10)
    id, held = post(), claim()
    points = [MetricPoint(attempt=1, number=n, step=n, measured_at=at(1), values={"loss": 1.0}) for n in range(1, 31)]
    with transaction(sessions) as session:
        AttemptService(session, held).record(points, None)
        spans = MetricRepository(session).spans(project_id, id)
    lines = csv_export.read_windows(sessions, project_id, id, spans)
    assert next(lines).count(b"\n") == 10
    with transaction(sessions) as session:
        AttemptService(session, held).fail(FailureReason.non_finite_loss, "NaN")
        JobService(session).delete(project_id, id)
    with pytest.raises(JobNotFound):
        next(lines)


def test_infinite_tiny_and_nan_values_are_exported_exactly(
    api: TestClient, sessions: Sessions, project_id: str, post: Callable[..., str]
) -> None:
    id, values = post(), {'a, "b"': math.inf, "nan": math.nan, "tiny": 5e-324, "third": 1 / 3}
    with transaction(sessions) as session:
        MetricRepository(session).add(
            project_id, id, [MetricPoint(attempt=1, number=1, step=1, measured_at=at(1), values=values)]
        )
    table = pyarrow.parquet.read_table(io.BytesIO(api.get(f"/jobs/{id}/metrics.parquet").content))
    found = dict(zip(table["name"].to_pylist(), table["value"].to_pylist(), strict=True))
    assert math.isnan(found.pop("nan"))
    assert math.isnan(values.pop("nan"))
    assert found == values
    rows = list(csv.DictReader(api.get(f"/jobs/{id}/metrics.csv").text.splitlines()))
    assert {row["name"]: float(row["value"]) for row in rows if row["name"] != "nan"} == values


def test_a_job_without_metrics_is_exported_as_empty_files(api: TestClient, post: Callable[..., str]) -> None:
    id = post()
    assert api.get(f"/jobs/{id}/metrics").json() == {
        "items": [],
        "next_after_step": None,
        "downsampled": False,
        "stream_cursor": "0.0",
    }
    assert api.get(f"/jobs/{id}/metrics.csv").text == "name,step,value,attempt,number,measured_at\n"
    table = pyarrow.parquet.read_table(io.BytesIO(api.get(f"/jobs/{id}/metrics.parquet").content))
    assert (table.num_rows, table.column_names) == (0, ["name", "step", "value", "attempt", "number", "measured_at"])

"""Tests the rows of docs/chaos.md that share one stack, and that every test in the page's table exists."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/chaos.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
ROWS = 16
"""Counts the rows of the table of faults."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run the rows in a separate process, which adopts the orphans of the processes that it kills."""
    out = tmp_path_factory.mktemp("rows") / "found.json"
    command = [sys.executable, "-m", "tests.chaos.rows", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    print(done.stdout)
    assert out.exists(), done.stderr
    rows: dict[str, dict[str, Any]] = json.loads(out.read_text())
    assert done.returncode == any("fault" in row for row in rows.values())
    return rows


@pytest.mark.ops
def test_a_job_that_outlives_the_visibility_timeout_is_claimed_once(found: dict[str, dict[str, Any]]) -> None:
    row = found["visibility"]
    assert "fault" not in row, row["fault"]
    assert row["unacknowledged_while_they_train"] >= 1, "nothing could have been offered again"
    assert row["offered_again"] >= 1, "nothing was offered again"
    assert row["claims"] == [1, 1]


@pytest.mark.ops
def test_leases_go_by_the_databases_clock_alone(found: dict[str, dict[str, Any]]) -> None:
    row = found["clocks"]
    assert "fault" not in row, row["fault"]
    assert row["leases_run_undisturbed"] > 3


@pytest.mark.ops
def test_an_outage_of_postgres_and_restarts_of_redis_cost_no_attempt_and_no_point(
    found: dict[str, dict[str, Any]],
) -> None:
    row = found["outages"]
    assert "fault" not in row, row["fault"]
    assert row["leases_away"] >= 20
    assert row["redis_restarts"] == 20
    assert row["live_points_after_the_last_fault"] > 0


@pytest.mark.ops
def test_a_worker_told_to_stop_does_not_wait_for_postgres(found: dict[str, dict[str, Any]]) -> None:
    row = found["drain"]
    assert "fault" not in row, row["fault"]


@pytest.mark.ops
def test_the_data_is_consistent_after_all_rows(found: dict[str, dict[str, Any]]) -> None:
    assert found["consistency"] == {}


def test_every_row_names_a_test() -> None:
    table = PAGE.partition("| failure |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) == ROWS
    for row in table:
        assert "::test_" in row, row


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_a_test_that_the_page_names_is_there(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

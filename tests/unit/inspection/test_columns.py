"""Keys of a file that stand for others, in every container; and the advice for rows with unknown keys."""

import json
from typing import Any

import pytest

from app.domain.datasets.formats import RecordFormat
from tests.fixtures.inspection import inspect, line
from tests.unit.inspection.files import CONTAINERS, PACKERS, ROWS, Open, csv_of, jsonl, parquet, read, refused
from worker.inspection.formats.containers import Flawed

OURS = {"prompt": "input", "completion": "output"}
THEIRS = [{"input": row["prompt"], "output": row["completion"]} for row in ROWS]
FILES = {
    "jsonl": jsonl(THEIRS),
    "json": json.dumps(THEIRS).encode(),
    "csv": csv_of(THEIRS),
    "parquet": parquet(THEIRS),
}


def test_every_container_is_here() -> None:
    assert FILES.keys() == CONTAINERS.keys()


@pytest.mark.parametrize("packing", ["none", "gzip"])
@pytest.mark.parametrize("container", FILES)
def test_keys_are_renamed(open_rows: Open, container: str, packing: str) -> None:
    rows = open_rows(PACKERS[packing](FILES[container]), "rows", columns=OURS)
    assert (rows.container, rows.verbatim) == (container, False)
    assert read(rows) == ROWS


def test_values_and_other_lines_keep_their_bytes(open_rows: Open) -> None:
    data = (
        b'\xef\xbb\xbf{"input": 1.50, "output" : "\\u00fc", "id": {"input": 1e3}}\r\n'
        b'\n{"input": "a", "input": "b"}\nnonsense\n{"prompt": "a"}'
    )
    first, *others = open_rows(data, columns=OURS).lines
    assert first == b'\xef\xbb\xbf{"prompt":1.50,"completion":"\\u00fc","id":{"input": 1e3}}\r'
    assert others == data.split(b"\n")[1:]


def test_keys_may_change_places(open_rows: Open) -> None:
    [row] = open_rows(
        b'{"prompt": "a", "completion": "b"}', columns={"prompt": "completion", "completion": "prompt"}
    ).lines
    assert json.loads(row) == {"completion": "a", "prompt": "b"}


def test_a_key_that_is_there_already_is_no_place_for_another(open_rows: Open) -> None:
    good, bad = open_rows(jsonl([{"input": "a"}, {"input": "a", "prompt": "b"}]), columns=OURS).lines
    assert json.loads(good) == {"prompt": "a"}
    assert isinstance(bad, Flawed)
    assert bad.finding.code == "column_conflict"
    assert refused(open_rows(b"input,prompt,output\na,b,c\n", columns=OURS)) == (1, "duplicate_column")


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"input": "a", "output": "b"}, {"prompt": "input", "completion": "output"}),
        ({"question": "a", "answer": "b", "id": 1}, {"prompt": "question", "completion": "answer"}),
        ({"instruction": "a", "response": "b", "context": "c"}, {"output": "response"}),
        ({"Prompt": "a", "Completion": "b"}, {"prompt": "Prompt", "completion": "Completion"}),
        ({"conversation": []}, {"messages": "conversation"}),
        ({"mesages": []}, {"messages": "mesages"}),
        ({"content": "a"}, {"text": "content"}),
        ({"prompt": "a", "chosen": "b", "reject": "c"}, {"rejected": "reject"}),
    ],
)
def test_what_was_meant_is_asked(row: dict[str, Any], columns: dict[str, str]) -> None:
    """And the answer may be sent back as it stands."""
    [problem, *_] = inspect(map(line, [row] * 3)).problems
    assert (problem.code, problem.count) == ("unknown_format", 3)
    for target, source in columns.items():
        assert f"Unknown field {source!r}; did you mean {target!r}?" in problem.message
        assert f"--map {target}={source}" in problem.message
    mapping = json.loads(problem.message.partition("columns ")[2].partition("}")[0] + "}")
    assert mapping == columns


@pytest.mark.parametrize("row", [{"prompt": "a"}, {"x": 1, "y": 2}, {}, {"output": "b"}])
def test_nothing_is_guessed_where_nothing_fits(row: dict[str, Any]) -> None:
    [problem] = inspect([line(row)]).problems
    assert problem.code == "unknown_format"
    assert "did you mean" not in problem.message
    assert "Write one of: " in problem.message


def test_a_named_format_and_a_header_are_guessed_too(open_rows: Open) -> None:
    [problem, *_] = inspect(map(line, THEIRS), RecordFormat.prompt_completion).problems
    assert (problem.code, problem.count) == ("missing_key", len(THEIRS))
    assert "did you mean 'prompt'?" in problem.message
    rows = open_rows(csv_of(THEIRS), "rows.csv")
    with pytest.raises(Exception, match=r"Unknown field 'input'; did you mean 'prompt'\?"):
        read(rows)

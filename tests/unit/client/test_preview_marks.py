"""What `tunewright datasets preview` shows where there is no colour."""

from typing import Any

import pytest

from tunewright.commands import dataset_checks


def row(**changes: Any) -> dict[str, Any]:
    tokens = [("Say ", False), ("it", False), ("wor", True), ("ks", True), ("\n", False)]
    shown = {
        "line": 1,
        "num_tokens": 5,
        "num_labelled_tokens": 2,
        "num_truncated_tokens": 0,
        "truncated_text": "",
        "in_validation_split": False,
    }
    shown |= {"dropped": False, "num_omitted_tokens": 0}
    return shown | {"tokens": [{"text": text, "labelled": labelled} for text, labelled in tokens]} | changes


def test_brackets_stand_around_what_is_trained_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    dataset_checks.show_row(row())
    assert "Say it[[works]]\n" in capsys.readouterr().out


def test_the_last_bracket_is_closed() -> None:
    last = row(tokens=[{"text": "a", "labelled": True}, {"text": "b", "labelled": True}])
    assert dataset_checks.format_bracketed(last).plain == "[[ab]]"
    hidden = dataset_checks.format_bracketed(
        last | {"num_omitted_tokens": 7, "num_truncated_tokens": 2, "truncated_text": "cd"}
    ).plain
    assert hidden == "[[a]] … 7 tokens … [[b]]cd"

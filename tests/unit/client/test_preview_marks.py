"""What `tunewright datasets preview` shows where there is no colour."""

from typing import Any

import pytest

from tunewright.commands import studies


def row(**changes: Any) -> dict[str, Any]:
    tokens = [("Say ", False), ("it", False), ("wor", True), ("ks", True), ("\n", False)]
    shown = {
        "line": 1,
        "num_tokens": 5,
        "num_labelled_tokens": 2,
        "num_cut_tokens": 0,
        "cut_text": "",
        "held_back": False,
    }
    shown |= {"dropped": False, "num_hidden_tokens": 0}
    return shown | {"tokens": [{"text": text, "labelled": labelled} for text, labelled in tokens]} | changes


def test_brackets_stand_around_what_is_trained_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    studies.show_row(row())
    assert "Say it[[works]]\n" in capsys.readouterr().out


def test_the_last_bracket_is_closed() -> None:
    last = row(tokens=[{"text": "a", "labelled": True}, {"text": "b", "labelled": True}])
    assert studies.bracketed(last).plain == "[[ab]]"
    hidden = studies.bracketed(last | {"num_hidden_tokens": 7, "num_cut_tokens": 2, "cut_text": "cd"}).plain
    assert hidden == "[[a]] … 7 tokens … [[b]]cd"

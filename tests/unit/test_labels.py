"""Reads labels as operators write them, and refuses malformed ones."""

import pytest
from pydantic import ValidationError

from app.labels import read_allowed_labels, read_labels, show_allowed_labels, show_labels
from app.settings import Settings


def test_labels_are_read_and_shown() -> None:
    assert read_labels("") == {}
    assert read_labels(" pool=a , gpu=4090,") == {"pool": "a", "gpu": "4090"}
    assert show_labels({"pool": "a", "gpu": "4090"}) == "gpu=4090, pool=a"


def test_a_project_may_have_several_values_of_a_key() -> None:
    allowed = read_allowed_labels("pool=b,pool=a,zone=x,pool=a")
    assert allowed == {"pool": ["a", "b"], "zone": ["x"]}
    assert show_allowed_labels(allowed) == "pool=a or pool=b, zone=x"


@pytest.mark.parametrize("word", ["pool", "pool=", "=a", "pool=a b", "pool=a/b", "pool=a=b", "p" * 64 + "=a"])
def test_a_malformed_label_prevents_the_start(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_WORKER_LABELS", f"gpu=4090,{word}")
    with pytest.raises(ValidationError, match="is not a label; use the form pool=a,gpu=4090"):
        Settings()


def test_a_worker_has_one_value_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_WORKER_LABELS", "pool=a,pool=b")
    with pytest.raises(ValidationError, match="'pool' is given twice"):
        Settings()
    monkeypatch.setenv("TUNEWRIGHT_WORKER_LABELS", "pool=a,gpu=4090")
    assert Settings().labels == {"pool": "a", "gpu": "4090"}

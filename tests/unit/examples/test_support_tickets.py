"""Checks that the example dataset is what its README says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "examples" / "support_tickets"
VALUES = {
    "product": {"kettle", "lamp", "fan", "toaster", "vacuum", "blender", "radio", "heater"},
    "intent": {"fault", "return", "invoice", "delivery", "howto", "parts"},
    "team": {"bench", "desk", "ledger", "dock", "guide", "store"},
    "reply": {"bell", "quill", "ping"},
}
NAMED = re.compile(
    r"\b(Heron|Wren|Kestrel|Robin|Plover|Teal|Lark|Osprey|kettle|desk lamp|fan|toaster|vacuum cleaner|blender|radio"
    r"|heater|Ana|Tom|Priya|Jonas|Mei|Omar|Lucy|Pavel|Sofia|Kwame|Nora|Hugo|Aisha|Ben)\b"
)


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def without_names(row: dict[str, str]) -> str:
    return re.sub(r"\W+", " ", NAMED.sub("", row["prompt"])).lower()


def test_generating_again_gives_the_same_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, FOLDER / "generate.py", tmp_path], check=True)
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_no_text_occurs_twice_even_with_other_names() -> None:
    train, test = (
        [without_names(row) for row in rows("train.jsonl")],
        [without_names(row) for row in rows("test.jsonl")],
    )
    assert (len(train), len(test)) == (252, 60)
    assert not set(train) & set(test)
    assert len(set(test)) == len(test)


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl"])
def test_answers_use_the_words_of_the_house(name: str) -> None:
    answers = [json.loads(row["completion"]) for row in rows(name)]
    for key, values in VALUES.items():
        assert {answer[key] for answer in answers} == values
    assert len({(answer["intent"], answer["team"]) for answer in answers}) == len(VALUES["intent"])

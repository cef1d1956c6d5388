"""`docs/openai.md` against the code that it describes."""

import re
from pathlib import Path

import pytest
from starlette.datastructures import State

from app.domain.jobs.spec import LEARNING_RATES
from app.domain.jobs.state import JobState
from app.openai.app import create_face
from app.openai.jobs.schemas import STATUSES
from app.openai.jobs.spec import AUTO_BETA, MIB, auto_batch_size, auto_epochs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/openai.md").read_text()


def test_every_route_is_listed_once() -> None:
    listed = re.findall(r"`(GET|POST|DELETE) (/(?:files|uploads|models|fine_tuning)\S*)`", PAGE)
    assert len(listed) == len(set(listed))
    paths = create_face(State()).openapi()["paths"]
    assert set(listed) == {(method.upper(), path) for path, operations in paths.items() for method in operations}


def test_auto_is_what_the_page_says() -> None:
    rows = re.findall(r"^\| (?:up to (\d+) MiB|larger) \| (\d) \| (\d+) \|$", PAGE, re.M)
    sizes = [int(size) * MIB if size else 2**40 for size, _, _ in rows]
    assert [(auto_epochs(size), auto_batch_size(size)) for size in sizes] == [(int(n), int(b)) for _, n, b in rows]
    beyond = [size + 1 for size in sizes[:-1]]
    assert [(auto_epochs(size), auto_batch_size(size)) for size in beyond] == [(int(n), int(b)) for _, n, b in rows[1:]]
    assert f"`beta` is {AUTO_BETA}." in PAGE
    assert LEARNING_RATES["sft"] == {"qlora": 2e-4, "lora": 2e-4, "full": 1e-5}
    assert "2e-4 for adapters" in PAGE
    assert "1e-5 for `full`" in PAGE
    assert LEARNING_RATES["dpo"] == pytest.approx({method: rate / 10 for method, rate in LEARNING_RATES["sft"].items()})


def test_every_state_has_its_status() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|$", PAGE, re.M))
    assert rows == {state.value: status for state, status in STATUSES.items()}
    assert rows.keys() == {state.value for state in JobState}


def test_the_readmes_example_is_the_pages() -> None:
    (example,) = re.findall(r"```python\n(from openai import OpenAI\n.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert set(filter(None, example.splitlines())) <= {line.strip() for line in PAGE.splitlines()}

"""The options of `tunewright jobs create`: each is a field of a JobSpec, and becomes it."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from app.domain.jobs.spec import JobSpec
from tests.unit.client.conftest import Request, Server
from tunewright.command_line import app
from tunewright.commands.spec.options import OPTIONS, SpecOption, read_duration

TYPED = {str: "auto", int: "3", float: "0.5"}
WORDS = {"label": "pool=a", "metadata": "team=cats", "max_duration": "90m", "method": "lora"}
DATASET = "file-" + "5" * 24


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_is_a_field(option: SpecOption) -> None:
    fields: dict[str, Any] = JobSpec.model_json_schema()
    place = fields
    for name in option.field.split("."):
        choices = [place, *place.get("anyOf", ())]
        resolved = [fields["$defs"][c["$ref"].rpartition("/")[2]] if "$ref" in c else c for c in choices]
        place = next(c["properties"][name] for c in resolved if name in c.get("properties", {}))
    assert place


def test_all_of_them_make_a_spec(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[Any] = []

    def answer(request: Request) -> None:
        posted.append(json.loads(request.rfile.read(int(request.headers["Content-Length"]))))
        request.send_json(
            {"type": "", "title": "", "status": 422, "detail": "no", "code": "invalid_spec", "errors": []}, 422
        )

    server.answers["POST /jobs"] = answer
    monkeypatch.setenv("TUNEWRIGHT_URL", server.url)
    monkeypatch.setenv("TUNEWRIGHT_API_KEY", "tw_test")
    typed = [
        word
        for option in OPTIONS
        for word in (
            f"--{option.name.replace('_', '-')}",
            WORDS.get(option.name, "x" if option.type == list[str] else TYPED.get(option.type, "x")),
        )
    ]
    CliRunner().invoke(app, ["jobs", "create", "--dataset", DATASET, *typed])
    (spec,) = posted
    assert spec["dataset_id"] == DATASET
    for option in OPTIONS:
        value = spec
        for name in option.field.split("."):
            value = value[name]
        assert value is not None
    assert spec["resources"] == {"device": "auto", "gpu": ["x"], "labels": {"pool": "a"}, "min_memory_gb": 0.5}
    assert (spec["max_duration_seconds"], spec["metadata"]) == (5400, {"team": "cats"})
    assert spec["on_bad_rows"] == {"action": "skip", "max_share": 0.5}


def test_durations() -> None:
    assert [read_duration(text) for text in ("90", "90s", "90m", "12h", "2d")] == [90, 90, 5400, 43200, 172800]


@pytest.mark.parametrize("words", [["--max-duration", "soon"], ["--label", "pool"], ["--metadata", "x"]])
def test_what_cannot_be_read_is_refused(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_URL", "http://127.0.0.1:1")
    done = CliRunner().invoke(app, ["jobs", "create", *words])
    assert done.exit_code == 2
    assert repr(words[1]) in done.stderr

"""Compares README.md with the code."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import typer

from app.domain.jobs.spec import JobSpec
from app.main import create_app
from app.settings import Settings
from tunewright.command_line import app as command_line

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text()
SHELL = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S)).replace("\\\n", " ")


def test_every_route_of_the_readme_exists() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    found = re.findall(r"(?:\$URL|`(?:GET|POST) )(/[^\s`?\"]+)", PAGE)
    assert len(found) >= 8
    for path in found:
        assert re.sub(r"/[a-z]+-…", "/{id}", path) in {re.sub(r"\{\w+\}", "{id}", known) for known in paths}, path


def test_the_job_of_the_readme_is_a_valid_spec() -> None:
    (body,) = re.findall(r"\$URL/jobs -d '(\{.*?\})'", PAGE, re.S)
    spec = json.loads(body.replace("file-…", "file-" + "0" * 24))
    assert JobSpec.model_validate(spec).method == "qlora"


def test_every_command_of_the_readme_exists() -> None:
    root: Any = typer.main.get_command(command_line)
    words = re.findall(r"`tunewright ([a-z][a-z -]+)`", PAGE)
    words += [
        " ".join(shlex.split(line)[1:3]) for line in SHELL.splitlines() if line.startswith(".venv/bin/tunewright")
    ]
    words += re.findall(r"`((?:jobs|keys|adapters) [a-z]+)`", PAGE)
    assert len(words) >= 7
    for each in words:
        command = root
        for word in each.split():
            assert word in getattr(command, "commands", ()), each
            command = command.commands[word]


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", PAGE, re.M))
    assert {"demo", "test", "up", "fuzz"} <= named <= targets

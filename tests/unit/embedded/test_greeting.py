"""The commands that `tunewright up` prints."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from app.local.greeting import lines
from app.settings import default_data_dir

URL = "http://127.0.0.1:8400"


def test_an_empty_server_shows_how_to_add_a_model() -> None:
    shown = lines(URL, default_data_dir(), None, None)
    assert any(line.split("tunewright")[-1].startswith(" models add my-model --path FOLDER") for line in shown)
    assert not any("export" in line for line in shown)
    assert any("jobs create --model my-model --dataset /" in line for line in shown)
    assert any(line.endswith(f"{URL}/datasets") for line in shown)


def test_what_is_there_is_named_by_its_name_and_id() -> None:
    shown = "\n".join(lines(URL, Path("/srv/a b"), {"name": "gemma"}, {"id": "file-1"}))
    assert "models add" not in shown
    assert "-F file=" not in shown
    assert "export TUNEWRIGHT_DATA_DIR='/srv/a b'\n" in shown
    assert "jobs create --model gemma --dataset file-1 --epochs 1 --watch\n" in shown
    words = shlex.split(shown.splitlines()[-1])
    assert json.loads(words[words.index("-d") + 1]) == {
        "base_model": "gemma",
        "dataset_id": "file-1",
        "training": {"epochs": 1},
    }
    assert words[-1] == f"{URL}/jobs"
    assert "$(cat '/srv/a b/api_key')" in shown


def test_the_program_is_one_that_the_shell_finds() -> None:
    [line] = [line for line in lines(URL, Path("/srv"), None, None) if line.endswith(" status")]
    command = line.strip().removesuffix(" status") + " --version"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tunewright "), sys.executable

"""Converts the demo's real base model in two processes at once, after one that was killed halfway."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

SCRIPT = Path(__file__).parents[3] / "examples" / "base_model.py"


@pytest.mark.slow
def test_two_processes_at_once_convert_the_model_once(tmp_path: Path) -> None:
    left_over = tmp_path / "gemma-3-270m.partial"
    left_over.mkdir()
    (left_over / "model.gguf").write_bytes(b"torn")
    command, environment = [sys.executable, SCRIPT], os.environ | {"TUNEWRIGHT_CACHE_DIR": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0].splitlines() for process in both]

    folder = tmp_path / "gemma-3-270m"
    assert [process.returncode for process in both] == [0, 0]
    assert [lines[-1] for lines in outputs] == [str(folder)] * 2
    assert sorted(map(len, outputs)) == [1, 4], "one process must convert, and print three phases"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gemma-3-270m", "gemma-3-270m.lock"]
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(536e6, rel=0.01)
    assert not (folder / "model.gguf").exists()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "Two  spaces,\n\ttabs, Zürich, 東京 🙂"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    shutil.rmtree(folder)  # pytest would keep its 570 MB for two more sessions

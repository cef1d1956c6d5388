"""Runs the example of docs/openai.md, in which only the address, the key and the model are replaced."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.acceptance.conftest import ROOT, Stack
from tests.acceptance.openai.conftest import chats


def test_the_example_works(stack: Stack, api_key: str, tmp_path: Path) -> None:
    (tmp_path / "tickets.jsonl").write_bytes(chats())
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/openai.md").read_text(), re.S)[0]
    for shown, actual in (("http://127.0.0.1:8400", stack.server["url"]), ("tw_…", api_key), ("gemma-3-270m", "tiny")):
        assert shown in code
        code = code.replace(shown, actual)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    with tarfile.open(tmp_path / "adapter.tar") as tar:
        assert "adapter_model.safetensors" in tar.getnames()

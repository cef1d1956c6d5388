"""Fixtures for tiny model folders and for the command that registers them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.fixtures.hub import Hub, serving_hub

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 128,
    "vocab_size": 16,
}
SHAPES = {
    "model.embed_tokens.weight": [16, 8],
    "model.layers.0.self_attn.q_proj.weight": [8, 8],
    "model.layers.0.self_attn.q_proj.bias": [8],
    "model.layers.0.mlp.up_proj.weight": [12, 8],
    "model.norm.weight": [8],
    "lm_head.weight": [16, 8],
}


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    """Return a safetensors file of zeros."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for count in shape:
            size *= count
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(end)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    (folder / "model.safetensors").write_bytes(safetensors(SHAPES))
    return folder


@pytest.fixture
def run_models(settings: Settings) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m app.models …` against the test's database; return the finished process."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app.models", *arguments],
            env=os.environ
            | {"DATABASE_URL": settings.database_url, "TUNEWRIGHT_DATA_DIR": str(settings.data_dir)}
            | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def hub(model_folder: Path) -> Iterator[Hub]:
    """Serve a hub with one model, `org/name`."""
    with serving_hub({path.name: path.read_bytes() for path in model_folder.iterdir()}) as hub:
        yield hub

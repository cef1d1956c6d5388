"""Model folders as small as can be, and the command that registers them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings

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
    """A file of zeros, by the format's own description."""
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
    """`python -m app.models …` against the test's own database."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app.models", *arguments],
            env=os.environ
            | {"DATABASE_URL": settings.database_url, "TUNEWRIGHT_CACHE_DIR": str(settings.cache_dir)}
            | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_url(model_folder: Path) -> Iterator[str]:
    """A hub with one model, `org/name`, at one commit: the two routes that a download asks for."""
    files = {path.name: path.read_bytes() for path in model_folder.iterdir()}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            name = path.removeprefix(f"/org/name/resolve/{COMMIT}/")
            if path == f"/api/models/org/name/tree/{COMMIT}":
                listed = [
                    {"type": "file", "path": name, "size": len(data), "oid": name} for name, data in files.items()
                ]
                self.answer(200, json.dumps(listed).encode())
            elif name in files:
                self.answer(200, files[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
            else:
                self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

        def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()

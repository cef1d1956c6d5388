"""`python -m tests.extras [NAME…]` installs each extra alone into a clean environment, without this checkout on its
path, and starts the parts that need it. The other targets of the Makefile use `demo` and `dev`; `bench` is `demo` with
the libraries that the benchmarks compare with."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180.0

CLIENT = "from tunewright import Client; Client('http://127.0.0.1:1', api_key='tw_x').close()"
SERVER = (
    "from app.main import create_app; import app.dispatcher, app.db.migrate; assert create_app().openapi()['paths']"
)
STACK = """
import json, pathlib, sys, time, httpx2
data = pathlib.Path(sys.argv[1])
server = json.loads((data / "server.json").read_text())
headers = {"Authorization": "Bearer " + (data / "api_key").read_text().strip()}
for _ in range(300):
    found = httpx2.get(server["url"] + "/workers", headers=headers, trust_env=False).json()["items"]
    if sorted(queue for worker in found if worker["online"] for queue in worker["queues"]) == ["light", "training"]:
        break
    time.sleep(0.2)
else:
    sys.exit(f"no worker of each kind: {found}")
"""
TOKENIZER = "import worker.training.preview.__main__, jinja2, transformers; transformers.AutoTokenizer"
TRAINING = """
import torch, bitsandbytes, peft, worker.training.__main__, worker.training.loop.training_loop
weights = torch.randn(64, 64)
packed, state = bitsandbytes.functional.quantize_4bit(weights, quant_type="nf4", compress_statistics=True)
assert (bitsandbytes.functional.dequantize_4bit(packed, state) - weights).abs().mean() < 0.2
"""
TRACKERS = "import worker.tracking.wandb_run, worker.tracking.mlflow_run, worker.tracking.tensorboard_file"

CHECKS: dict[str, Sequence[str]] = {
    "": (CLIENT,),
    "server": (CLIENT, SERVER),
    "server,local": (SERVER,),
    "server,tokenizer": (TOKENIZER,),
    "server,integrations": (TRACKERS,),
    "worker": (SERVER, TOKENIZER, TRAINING),
}
"""Code that runs in the environment of each extra. Extras that need `server` are installed with it."""


def main() -> None:
    for extras in sys.argv[1:] or CHECKS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tunewright-extras-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o711)  # PostgreSQL under root runs as another user
            check(extras, Path(folder))
        print(f"[{extras}] {time.monotonic() - began:.0f} s", flush=True)


def check(extras: str, folder: Path) -> None:
    """Install the extras and run their checks; exit with a message if one fails."""
    python, elsewhere = folder / "venv/bin/python", folder / "elsewhere"
    elsewhere.mkdir()
    run([sys.executable, "-m", "venv", str(folder / "venv")], elsewhere)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    run([*pip, "install", *constraints, f"{ROOT}[{extras}]" if extras else str(ROOT)], elsewhere)
    run([*pip, "check"], elsewhere)
    run([str(folder / "venv/bin/tunewright"), "--version"], elsewhere)
    for code in CHECKS[extras]:
        run([str(python), "-c", code], elsewhere)
    if "local" in extras:
        start_stack(python, elsewhere)


def start_stack(python: Path, folder: Path) -> None:
    """Start the stack and check that it becomes ready, with a worker of each kind."""
    data = folder / "data"
    up = subprocess.Popen(
        [python, "-m", "app.local", "--data-dir", data, "--port", "0"], cwd=folder, env=clean_environment()
    )
    try:
        ends = time.monotonic() + PATIENCE_SECONDS
        while not (data / "server.json").exists():
            if up.poll() is not None or time.monotonic() > ends:
                sys.exit("`tunewright up` did not become ready")
            time.sleep(0.2)
        run([str(python), "-c", STACK, str(data)], folder)
    finally:
        up.terminate()
        up.wait()


def clean_environment() -> dict[str, str]:
    """Return the environment without the variables that point to this checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def run(command: Sequence[str], folder: Path) -> None:
    if subprocess.run(command, cwd=folder, env=clean_environment()).returncode != 0:
        sys.exit(f"failed: {' '.join(command)[:300]}")


if __name__ == "__main__":
    main()

"""Runs the whole workflow: starts a server, uploads a dataset, trains with QLoRA, and evaluates the adapter.

Registers the base model with the command line and does the rest over HTTP, as any client would. `--keep` keeps the
folder with the server's data and the results.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tunewright import Client, Job, TunewrightError
from tunewright.display import format_duration, format_size
from tunewright.follow import follow

HERE = Path(__file__).parent
TICKETS = HERE / "support_tickets"
BASE_MODEL = "gemma-3-270m"
SPEC: dict[str, Any] = {
    "base_model": BASE_MODEL,
    "method": "qlora",
    "quantization": {"type": "nf4", "double_quant": True},
    "adapter": {"rank": 16, "alpha": 32, "target_modules": "all-linear"},
    "training": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "seed": 0},
    "name": "demo",
    "suffix": "support",
}
HIGHEST_BASE = 0.10
LOWEST_ADAPTER = 0.80
FEWEST_ROWS = 50
"""Are the bars of the demo: the base model must fail at the task, and the adapter must succeed."""

console = Console(highlight=False, markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the folder with the server's data and the results")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="tunewright-demo-"))
    if os.geteuid() == 0:
        folder.chmod(0o755)  # PostgreSQL does not run as root; its user must be able to enter
    clear_server_settings(folder / "data")
    stack = Stack(folder)
    demo = Demo(folder)
    try:
        return demo.run(stack)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130
    except Exception as error:
        console.print(f"\nFailed at: {demo.step}\n{type(error).__name__}: {error}", style="bold red")
        demo.print_logs()
        return 1
    finally:
        stack.stop()
        if keep:
            console.print(f"Kept the folder {folder}")
        else:
            shutil.rmtree(folder)


def clear_server_settings(data: Path) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
        os.environ.pop(name, None)
    for name in ("URL", "API_KEY", "HOST", "PORT"):
        os.environ.pop(f"TUNEWRIGHT_{name}", None)
    os.environ["TUNEWRIGHT_DATA_DIR"] = str(data)


class Demo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.step = "start"
        self.seconds: dict[str, float] = {}
        self.job: Job | None = None

    def run(self, stack: "Stack") -> int:
        with self.timed("start the server"):
            stack.start()
        with self.timed("prepare the base model"):
            model = prepare_base_model()
            run_python("-m", "tunewright", "models", "add", BASE_MODEL, "--path", str(model))
        with Client() as client:
            with self.timed("upload the dataset and train"):
                self.job = self.train(client)
            with self.timed("download the adapter"):
                assert self.job.adapter_id
                adapter = self.download(client, self.job.adapter_id)
            peak = max(
                point.values["peak_memory_bytes"] for point in client.metrics(self.job.id, ["peak_memory_bytes"])
            )
        with self.timed("evaluate on the NF4 base model"):
            nf4 = self.evaluate(model, adapter, "nf4")
        with self.timed("evaluate on the bf16 base model"):
            bf16 = self.evaluate(model, adapter, "bf16", "--adapter-only")
            console.print(f"exact match, adapter on bf16: {bf16['exact_match']['adapter']:.1%}")
        self.print_summary(nf4, bf16, int(peak))
        return check_bars(nf4)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        self.step = step
        console.print(f"\n[{len(self.seconds) + 1}] {step[0].upper()}{step[1:]}", style="bold")
        started = time.monotonic()
        yield
        self.seconds[step] = time.monotonic() - started

    def train(self, client: Client) -> Job:
        dataset = client.upload_dataset(TICKETS / "train.jsonl")
        console.print(f"Uploaded {dataset.filename}: {format_size(dataset.bytes)}, {dataset.id}")
        self.job = client.create_job(dataset_id=dataset.id, **SPEC)
        console.print(f"Created job {self.job.id}")
        job = follow(client, self.job.id, console)
        if job.state != "succeeded":
            raise RuntimeError(f"the job is {job.state}: {job.failure}")
        return job

    def download(self, client: Client, adapter_id: str) -> Path:
        folder = client.download_adapter(adapter_id, self.folder / "adapter")
        for file in client.get_adapter(adapter_id).files:
            console.print(f"{file.sha256}  {file.path} ({format_size(file.size)})", soft_wrap=True)
        console.print("Verified the SHA-256 of every file.")
        return folder

    def evaluate(self, model: Path, adapter: Path, precision: str, *options: str) -> dict[str, Any]:
        out = self.folder / f"{precision}.json"
        arguments = ["--base", model, "--adapter", adapter, "--data", TICKETS / "test.jsonl", "--out", out]
        # The bf16 answers resemble those on NF4, so only their score is printed.
        output = subprocess.DEVNULL if options else None
        run_python(
            str(HERE / "evaluate.py"),
            *map(str, arguments),
            "--base-precision",
            precision,
            *options,
            stdout=output,
        )
        report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return report

    def print_summary(self, nf4: dict[str, Any], bf16: dict[str, Any], peak: int) -> None:
        table = Table("step", "time", box=None, pad_edge=False)
        for step, seconds in self.seconds.items():
            table.add_row(step, format_duration(seconds))
        table.add_row("total", format_duration(sum(self.seconds.values())), style="bold")
        console.print()
        console.print(table)
        before, after = nf4["exact_match"]["base"], nf4["exact_match"]["adapter"]
        console.print(
            f"\nExact match on {nf4['num_rows']} unseen rows: {before:.0%} without the adapter, {after:.0%} with it "
            f"({bf16['exact_match']['adapter']:.0%} on the bf16 base model)\n"
            f"Peak memory of the training process: {format_size(peak)}"
        )

    def print_logs(self) -> None:
        """Print the ends of the server's logs and of the job's log."""
        for log in [self.folder / "stack.log", *sorted((self.folder / "data" / "logs").glob("*"))]:
            if log.exists() and (lines := log.read_text(errors="replace").splitlines()[-15:]):
                console.print(f"\n--- {log.name}", *lines, sep="\n", soft_wrap=True)
        if self.job:
            console.print("\n--- the training process", self.job_logs(), sep="\n", soft_wrap=True)

    def job_logs(self) -> str:
        assert self.job
        try:
            with Client() as client:
                return client.logs(self.job.id)[-4000:]
        except TunewrightError as error:
            return f"(not available: {error})"


class Stack:
    """Runs `tunewright up` with a temporary data folder and a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        libc = ctypes.CDLL(None)
        with (self.folder / "stack.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tunewright", "up", "--port", "0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                process_group=0,  # Ctrl-C reaches only the demo, which then stops the server
                preexec_fn=lambda: libc.prctl(1, signal.SIGINT),  # PR_SET_PDEATHSIG: stops when the demo dies
            )  # fmt: skip
        server = self.folder / "data" / "server.json"
        while not server.exists():
            if self.process.poll() is not None:
                raise RuntimeError("the server did not start")
            time.sleep(0.1)
        console.print(f"Listening at {json.loads(server.read_text())['url']}")

    def stop(self) -> None:
        if process := self.process:
            signal.signal(signal.SIGINT, lambda *_: process.send_signal(signal.SIGINT))  # a second Ctrl-C hurries
            process.send_signal(signal.SIGINT)
            process.wait()


def prepare_base_model() -> Path:
    """Prepare the base model in a separate process, to free its memory before training starts."""
    command = [sys.executable, str(HERE / "base_model.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = ""
        for line in process.stdout:
            console.print(line.rstrip(), soft_wrap=True)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Path(line.strip())


def run_python(*arguments: str, stdout: int | None = None) -> None:
    sys.stdout.flush()
    # PEFT uses is_gradient_checkpointing, for which transformers warns.
    quiet = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=stdout, env=os.environ | quiet)


def check_bars(report: dict[str, Any]) -> int:
    base, adapter, rows = report["exact_match"]["base"], report["exact_match"]["adapter"], report["num_rows"]
    missed = [
        *([f"{rows} rows, fewer than {FEWEST_ROWS}"] if rows < FEWEST_ROWS else []),
        *([f"base model at {base:.0%}, above {HIGHEST_BASE:.0%}"] if base > HIGHEST_BASE else []),
        *([f"adapter at {adapter:.0%}, below {LOWEST_ADAPTER:.0%}"] if adapter < LOWEST_ADAPTER else []),
    ]
    for bar in missed:
        console.print(f"Bar missed: {bar}", style="bold red")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

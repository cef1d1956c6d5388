"""The main job from end to end: a server of its own, a dataset, a QLoRA job, its adapter, and what that is worth.

All but the evaluation goes over HTTP, as any program would do it. `--keep` leaves the folder with everything in it.
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
"""The demo fails outside these bars: the base model must not know the task, and the adapter must."""

console = Console(highlight=False, markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the folder of the demo")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="tunewright-demo-"))
    if os.geteuid() == 0:
        folder.chmod(0o755)  # PostgreSQL refuses root, and runs as a user who must get in here
    take_no_notice_of_other_servers(folder / "data")
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
            console.print(f"Everything is in {folder}")
        else:
            shutil.rmtree(folder)


def take_no_notice_of_other_servers(data: Path) -> None:
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
            run("-m", "tunewright", "models", "add", BASE_MODEL, "--path", str(model))
        with Client() as client:
            with self.timed("upload the dataset and train"):
                self.job = self.train(client)
            with self.timed("download the adapter"):
                assert self.job.adapter_id
                adapter = self.download(client, self.job.adapter_id)
            peak = max(
                point.values["peak_memory_bytes"] for point in client.metrics(self.job.id, ["peak_memory_bytes"])
            )
        with self.timed("evaluate on the NF4 base it was trained on"):
            nf4 = self.evaluate(model, adapter, "nf4")
        with self.timed("evaluate on the bf16 base"):
            bf16 = self.evaluate(model, adapter, "bf16", "--adapter-only")
            console.print(f"exact match, adapter on bf16: {bf16['exact_match']['adapter']:.1%}")
        self.print_summary(nf4, bf16, int(peak))
        return judge(nf4)

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
        console.print(f"Posted {self.job.id}")
        job = follow(client, self.job.id, console)
        if job.state != "succeeded":
            raise RuntimeError(f"the job has {job.state}: {job.failure}")
        return job

    def download(self, client: Client, adapter_id: str) -> Path:
        folder = client.download_adapter(adapter_id, self.folder / "adapter")
        for file in client.get_adapter(adapter_id).files:
            console.print(f"{file.sha256}  {file.path} ({format_size(file.size)})", soft_wrap=True)
        console.print("Every SHA-256 is the one that the server names.")
        return folder

    def evaluate(self, model: Path, adapter: Path, precision: str, *options: str) -> dict[str, Any]:
        out = self.folder / f"{precision}.json"
        words = ["--base", model, "--adapter", adapter, "--data", TICKETS / "test.jsonl", "--out", out]
        # The answers on bf16 look like those on NF4: only their score is told.
        output = subprocess.DEVNULL if options else None
        run(
            str(HERE / "evaluate.py"),
            *map(str, words),
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
            f"\nExact match on {nf4['num_rows']} rows never trained on: {before:.0%} before, {after:.0%} with the "
            f"adapter ({bf16['exact_match']['adapter']:.0%} on the bf16 base)\n"
            f"Peak memory of the training process: {format_size(peak)}"
        )

    def print_logs(self) -> None:
        """What may explain a failure: the ends of the server's logs and of the job's."""
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
            return f"(unknown: {error})"


class Stack:
    """The server and all it needs, as `tunewright up` starts them, in a folder and on a port of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        libc = ctypes.CDLL(None)
        with (self.folder / "stack.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tunewright", "up", "--port", "0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                process_group=0,  # ctrl-C reaches the demo alone, which ends the server in order
                preexec_fn=lambda: libc.prctl(1, signal.SIGINT),  # PR_SET_PDEATHSIG: however the demo ends
            )  # fmt: skip
        server = self.folder / "data" / "server.json"
        while not server.exists():
            if self.process.poll() is not None:
                raise RuntimeError("the server did not start")
            time.sleep(0.1)
        console.print(f"It listens at {json.loads(server.read_text())['url']}")

    def stop(self) -> None:
        if process := self.process:
            signal.signal(signal.SIGINT, lambda *_: process.send_signal(signal.SIGINT))  # a second ctrl-C hurries it
            process.send_signal(signal.SIGINT)
            process.wait()


def prepare_base_model() -> Path:
    """In a process of its own, whose memory is free again before the training starts."""
    command = [sys.executable, str(HERE / "base_model.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = ""
        for line in process.stdout:
            console.print(line.rstrip(), soft_wrap=True)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Path(line.strip())


def run(*arguments: str, stdout: int | None = None) -> None:
    sys.stdout.flush()
    # PEFT still says is_gradient_checkpointing, of which transformers warns.
    quiet = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=stdout, env=os.environ | quiet)


def judge(report: dict[str, Any]) -> int:
    base, adapter, rows = report["exact_match"]["base"], report["exact_match"]["adapter"], report["num_rows"]
    missed = [
        *([f"{rows} rows are too few, {FEWEST_ROWS} are needed"] if rows < FEWEST_ROWS else []),
        *([f"the base model has {base:.0%} right, beyond {HIGHEST_BASE:.0%}"] if base > HIGHEST_BASE else []),
        *([f"the adapter has {adapter:.0%} right, below {LOWEST_ADAPTER:.0%}"] if adapter < LOWEST_ADAPTER else []),
    ]
    for bar in missed:
        console.print(f"Missed: {bar}", style="bold red")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

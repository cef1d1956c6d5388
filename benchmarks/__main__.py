"""Runs every engine on the same rows, in turn and repeatedly, and writes medians to benchmarks/results/ (`make bench`).

One repeat runs each engine once in a separate process, so that a temporary slowdown affects all engines.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, ours
from benchmarks.bars import judge
from benchmarks.engines import ENGINES, SWEEP, Engine, Work
from benchmarks.processes import ROOT, ProcessFailed, run_to_end
from benchmarks.rows import make_rows, write_rows
from benchmarks.table import RESULT, RESULTS, render, write_into_readme

NUM_VALIDATION_ROWS = 24
WARNINGS = ("warning_issued", "out_of_memory_fallback")


class Bench:
    def __init__(self, work: Work, folder: Path, engines: list[Engine]) -> None:
        self.work, self.folder, self.engines = work, folder, engines
        rows = make_rows(work.num_rows, seed=work.seed)
        self.rows = write_rows(folder / "rows.jsonl", rows)
        self.validation_rows = write_rows(folder / "validation.jsonl", make_rows(NUM_VALIDATION_ROWS, work.seed + 1))
        order = ours.order_of_rows(work.num_rows, work.batch_size, work.seed)
        self.peer_work = work.model_copy(update={"rows": ours.write_peer_rows(folder / "peers", rows, order)})
        self.reports: dict[str, list[dict[str, Any]]] = {engine.name: [] for engine in engines}
        self.left_out: dict[str, str] = {}

    def repeat(self, number: int) -> None:
        for engine in self.engines:
            if engine.name in self.left_out:
                continue
            folder = self.folder / f"{engine.name}-{number}"
            folder.mkdir()
            try:
                report = self.run_ours(engine, folder) if engine.kind == "ours" else self.run_peer(engine, folder)
            except Unable as reason:
                self.left_out[engine.name] = str(reason)
                print(f"{engine.title}: skipped, {reason}", flush=True)
                continue
            except ProcessFailed as failure:  # The other engines continue.
                self.left_out[engine.name] = f"it failed: {str(failure).strip().splitlines()[-1]}"
                print(f"{engine.title}: {failure}", flush=True)
                continue
            self.reports[engine.name].append(report)
            speed = self.num_tokens / training_seconds(report)
            memory = report["peak_memory_bytes"] / 1e9
            print(f"repeat {number}: {engine.title}: {speed:.1f} tokens/s, {memory:.2f} GB", flush=True)

    def run_ours(self, engine: Engine, folder: Path) -> dict[str, Any]:
        if reason := ours.unsupported(engine):
            raise Unable(reason)
        resolved = None
        if engine.micro_batch_as is not None:
            plain, peer = self.reports.get("qlora"), self.reports.get(engine.micro_batch_as)
            if not plain or not peer:
                raise Unable(f"it needs results of qlora and {engine.micro_batch_as}")
            resolved = ours.with_micro_batch(plain[0]["resolved"], peer[0]["largest_micro_batch"])
        spec = ours.make_spec(self.work, engine)
        request = ours.make_request(self.work, spec, self.rows, folder, resolved)
        return ours.train(request, folder / "log.txt")

    def run_peer(self, engine: Engine, folder: Path) -> dict[str, Any]:
        task, report, adapter = folder / "task.json", folder / "report.json", folder / "adapter"
        work = json.loads(self.peer_work.model_dump_json())
        task.write_text(json.dumps({"kind": engine.kind, "work": work, "options": engine.options}))
        command = [sys.executable, "-m", "benchmarks.peers", str(task), str(report), str(adapter)]
        outside = run_to_end(command, folder, self.work.threads)
        inside: dict[str, Any] = json.loads(report.read_text())
        return inside | outside | {"adapter": str(adapter)}

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens in the training rows, as Tunewright counted them."""
        return self._counted("num_tokens")

    @property
    def num_labelled(self) -> int:
        return self._counted("num_labelled")

    def _counted(self, name: str) -> int:
        return next(int(report[0][name]) for report in self.reports.values() if report and name in report[0])

    def check_tokens(self) -> None:
        """Check by an engine without padding that all engines read the same tokens."""
        for report in self.reports.get("trl-batch-1", []):
            if report["num_input_tokens"] != self.num_tokens:
                raise ProcessFailed(f"TRL read {report['num_input_tokens']} tokens, Tunewright {self.num_tokens}")

    def evaluate(self) -> dict[str, float]:
        """Return each engine's validation loss with the first repeat's adapter, on the weights it was trained on."""
        adapters: dict[str, dict[str, str]] = {"nf4": {}, "bf16": {}}
        for engine in self.engines:
            if self.reports[engine.name]:
                precision = "bf16" if engine.method == "lora" else "nf4"
                adapters[precision][engine.name] = self.reports[engine.name][0]["adapter"]
        task, report = self.folder / "evaluation.json", self.folder / "losses.json"
        evaluation = {
            "base_model": str(self.work.base_model),
            "rows": str(self.validation_rows),
            "threads": self.work.threads,
            "adapters": {precision: each for precision, each in adapters.items() if each},
        }
        task.write_text(json.dumps(evaluation))
        run_to_end(
            [sys.executable, "-m", "benchmarks.evaluate", str(task), str(report)], self.folder, self.work.threads
        )
        found: dict[str, dict[str, float]] = json.loads(report.read_text())
        return {f"untrained, {precision}": losses.pop("untrained") for precision, losses in found.items()} | {
            name: loss for losses in found.values() for name, loss in losses.items()
        }

    def summary(self) -> dict[str, Any]:
        losses = self.evaluate()
        figures = [
            self.figures(engine, self.reports[engine.name], losses.get(engine.name))
            for engine in self.engines
            if self.reports[engine.name]
        ]
        return {
            "work": json.loads(self.work.model_dump_json(exclude={"rows", "base_model"}))
            | {"num_tokens": self.num_tokens, "num_labelled": self.num_labelled, "method": "NF4, double quantization"},
            "engines": figures,
            "left_out": self.left_out,
            "untrained_validation_loss": {name: loss for name, loss in losses.items() if "untrained" in name},
        }

    def figures(self, engine: Engine, reports: list[dict[str, Any]], loss: float | None) -> dict[str, Any]:
        each = [training_seconds(report) for report in reports]
        middle = statistics.median
        return {
            "name": engine.name,
            "title": engine.title,
            "options": engine.options,
            "tokens_per_second": round(middle(self.num_tokens / seconds for seconds in each), 1),
            "tokens_per_second_each": [round(self.num_tokens / seconds, 1) for seconds in each],
            "labelled_tokens_per_second": round(middle(self.num_labelled / seconds for seconds in each), 1),
            "cpu_seconds": round(middle(report["cpu_seconds"] for report in reports), 1),
            "peak_memory_bytes": int(middle(report["peak_memory_bytes"] for report in reports)),
            "peak_memory_bytes_each": [report["peak_memory_bytes"] for report in reports],
            "seconds_to_first_step": round(
                middle(report["step_ended_at"][0] - report["started_at"] for report in reports), 2
            ),
            "largest_micro_batch": reports[0]["largest_micro_batch"],
            "num_input_tokens": reports[0].get("num_input_tokens"),
            "num_steps": len(reports[0]["step_ended_at"]),
            "validation_loss": None if loss is None else round(loss, 5),
            "training_losses": [round(value, 5) for value in reports[0]["losses"]],
            "resolved": reports[0].get("resolved"),
            "warnings": [event for event in reports[0].get("events", []) if event["type"] in WARNINGS],
            "dry_run_seconds": [
                event["seconds"]
                for report in reports
                for event in report.get("events", [])
                if event["type"] == "dry_run_passed"
            ],
        }


class Unable(Exception):
    """Raised when this version cannot measure the engine. The message says why."""


def training_seconds(report: dict[str, Any]) -> float:
    """Return the time from the start of the first step to the end of the last one."""
    return float(report["step_ended_at"][-1] - report["training_began_at"])


def side_measurement(script: str, output: str) -> dict[str, Any] | None:
    """Run another script of this folder and return its JSON results; None if it fails."""
    if not (Path(__file__).parent / script).exists():
        print(f"{script} does not exist; its results are skipped.", flush=True)
        return None
    print(f"\n{script}", flush=True)
    result = RESULTS / output
    module = ["-m", f"benchmarks.{script.removesuffix('.py')}"]
    done = subprocess.run([sys.executable, *module, "--output", str(result)], cwd=ROOT, check=False)
    if done.returncode != 0:
        print(f"{script} failed; its results are skipped.", flush=True)
        return None
    return dict(json.loads(result.read_text()))


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each engine (3)")
    parser.add_argument("--rows", type=int, help="number of training rows (40)")
    parser.add_argument(
        "--quick", action="store_true", help="one repeat on 16 rows, only the engines; takes ten minutes"
    )
    parser.add_argument("--sweep", action="store_true", help="run TRL with various settings to find its best")
    parser.add_argument("--engines", nargs="+", metavar="NAME", choices=[engine.name for engine in ENGINES])
    parser.add_argument("--base-model", type=Path, help="model folder (Gemma 3 270M)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="results file (in benchmarks/results/)")
    parser.add_argument("--only-engines", action="store_true", help="skip product share, start and checkpoint cost")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    arguments = parse_arguments(words)
    short = arguments.quick or arguments.sweep
    wanted = SWEEP if arguments.sweep else ENGINES
    engines = [engine for engine in wanted if not arguments.engines or engine.name in arguments.engines]
    result = measure(
        engines,
        base_model=arguments.base_model or machine.base_model(),
        num_rows=arguments.rows or (16 if short else 40),
        repeats=arguments.repeats or (1 if short else 3),
        threads=arguments.threads,
    )
    if not (arguments.only_engines or short):
        result |= side_measurements()
    result["machine"]["load_average_after"] = machine.load_average()
    result["bars"] = [] if arguments.sweep else judge(result)
    name = "trl-settings" if arguments.sweep else "gemma-3-270m-quick" if arguments.quick else "gemma-3-270m"
    output = arguments.output or RESULTS / f"{name}.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{render(result)}\n{output}", flush=True)
    if output == RESULT:
        write_into_readme(result)


def measure(engines: list[Engine], base_model: Path, num_rows: int, repeats: int, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as name:
        folder = Path(name)
        work = Work(base_model=base_model, rows=folder / "rows.jsonl", num_rows=num_rows, threads=threads)
        before = machine.describe()
        bench = Bench(work, folder, engines)
        for number in range(1, repeats + 1):
            bench.repeat(number)
            bench.check_tokens()
        return {"machine": before, "repeats": repeats, **bench.summary()}


def side_measurements() -> dict[str, Any]:
    return {
        "product_share": side_measurement("product_share.py", "product_share.json"),
        "checkpoints": side_measurement("checkpoint_cost.py", "checkpoint_cost.json"),
        "startup": side_measurement("startup.py", "startup.json"),
    }


if __name__ == "__main__":
    main()

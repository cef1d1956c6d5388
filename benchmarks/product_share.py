"""Product share: how much of a training step is the frozen model's own matrix products, which no trainer can spare.

Before and after each step, in the same process, exactly that step's frozen products are replayed: each linear layer's
forward and input gradient, and the head twice on the labelled positions, in the shapes and the type of the step and
nothing else. Replay time over step time is the share. Both stretch alike when the machine is slow, so that the ratio
holds on a noisy one.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import os

from app.domain.spec import JobSpec
from worker.training.channel import Channel
from worker.training.loss import BLOCK
from worker.training.packing import MicroBatch, pack
from worker.training.protocol import Line, Measured, Request
from worker.training.quantization import NF4Linear
from worker.training.recipe import Run, prepare
from worker.training.rendering import Row
from worker.training.rows import Examples
from worker.training.tokenizing import pack_rows

clock = time.process_time if os.environ.get("CPU") else time.perf_counter


class Silent(Channel):
    """Stands where the pipe to the worker is: the measurement hears nothing but the losses."""

    def __init__(self) -> None:
        self.stop_wish = None
        self.losses: list[float] = []

    def say(self, line: Line) -> None:
        if isinstance(line, Measured):
            self.losses.append(line.values["loss"])


class Products:
    """The frozen matrix products of one model, replayed on noise."""

    def __init__(self, run: Run) -> None:
        causal = run.model.causal
        self.dtype = run.model.plan.dtype
        head = causal.get_output_embeddings()
        linear = [(name, module) for name, module in causal.named_modules() if isinstance(module, nn.Linear)]
        frozen = [(name, module) for name, module in linear if "lora_" not in name and module is not head]
        self.weights = [(_dense(module), not _is_first(name)) for name, module in frozen]
        self.head = head.weight
        widest = max(max(weight.shape) for weight, _ in self.weights)
        self.noise = torch.randn(8192, widest).to(self.dtype)

    def replay(self, batches: list[MicroBatch]) -> float:
        """Seconds."""
        started = clock()
        for batch in batches:
            tokens, labelled = sum(row.num_inputs for row in batch.examples), len(batch.positions)
            for weight, wants_gradient in self.weights:
                nn.functional.linear(self.rows(tokens, weight.shape[1]), weight)
                if wants_gradient:
                    self.rows(tokens, weight.shape[0]) @ weight
            hidden = self.rows(labelled, self.head.shape[1])
            for start in range(0, self.head.shape[0], BLOCK):
                block = self.head[start : start + BLOCK]
                logits = hidden @ block.T
                logits @ block
        return clock() - started

    def rows(self, count: int, width: int) -> Tensor:
        return self.noise.view(-1)[: count * width].view(count, width)


def _dense(layer: nn.Linear) -> Tensor:
    return layer.dense() if isinstance(layer, NF4Linear) else layer.weight.detach()


def _is_first(name: str) -> bool:
    """The first layer's attention reads embeddings, which want no gradient."""
    return ".layers.0.self_attn." in name and any(part in name for part in ("q_proj", "k_proj", "v_proj", "qkv"))


def made_rows(count: int, mean: int, seed: int) -> Examples:
    """Rows of many lengths, a third prompt and two thirds completion."""
    draw = random.Random(seed)
    rows = []
    for line in range(count):
        length = max(24, min(700, int(draw.lognormvariate(0, 0.5) * mean)))
        ids = np.array([draw.randrange(4, 200_000) for _ in range(length)], np.int32)
        rows.append(Row(line, ids, np.arange(length) >= length // 3))
    return Examples({name: torch.from_numpy(column) for name, column in pack_rows(rows).items()}, range(count))


def measure(run: Run, steps: int, watch: Callable[[str], None]) -> dict[str, Any]:
    products = Products(run)
    shares, speeds = [], []
    for _ in range(steps + 1):
        step = run.state.position.step + 1
        examples = [run.rows.training[row] for row in run.epochs.rows(step)]
        batches = list(pack(examples, run.model.micro_batch_tokens))
        before = products.replay(batches)
        started = clock()
        run._step()
        spent = clock() - started
        after = products.replay(batches)
        tokens = sum(batch.num_tokens for batch in batches)
        shares.append((before + after) / 2 / spent)
        speeds.append(tokens / spent)
        watch(f"step {step}: {len(batches)} micro-batches, {tokens} tokens, {spent:.2f} s, share {shares[-1]:.3f}")
    return {  # the first step warms caches and is not counted
        "product_share": round(statistics.median(shares[1:]), 4),
        "product_share_each": [round(share, 4) for share in shares[1:]],
        "tokens_per_second": round(statistics.median(speeds[1:]), 1),
    }


def build(model: Path, micro_batch_tokens: int, args: argparse.Namespace, folder: Path) -> Run:
    spec = JobSpec.model_validate(
        {
            "base_model": "gemma-3-270m",
            "dataset_id": "file-" + "0" * 24,
            "method": args.method,
            "training": {"max_steps": args.steps + 1, "batch_size": args.rows},
        }
    ).filled(2048)
    dataset = folder / "rows.jsonl"
    dataset.write_text('{"prompt": "What is two plus two? ", "completion": "Four."}\n')
    resolved = {
        "resources": {"device": "cpu"},
        "training": {"gradient_checkpointing": args.checkpointing},
        "engine": {"compute_dtype": args.dtype, "micro_batch_tokens": micro_batch_tokens},
    }
    request = Request(
        spec=spec,
        resolved=resolved,
        attempt=1,
        base_model="gemma-3-270m",
        base_model_revision=None,
        base_model_path=model,
        dataset_path=dataset,
        dataset_sha256="0" * 64,
        validation_path=None,
        validation_sha256=None,
        checkpoint_path=None,
        work_dir=folder,
        cache_dir=folder / "cache",
        device="cpu",
        threads=args.threads,
    )
    run = prepare(request, Silent())
    if args.fast:
        from worker.training.fast_paths import PATHS, switch_on

        for name in PATHS:
            if name in args.fast:
                print(name, switch_on(run.model.causal, name))
    run.rows.training = made_rows(args.rows * 8, args.mean, seed=1)
    run.epochs._num_rows, run.epochs.steps_per_epoch = args.rows * 8, 8
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path.home() / ".cache/tunewright/gemma-3-270m")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048], help="tokens a micro-batch")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rows", type=int, default=16, help="rows a step")
    parser.add_argument("--mean", type=int, default=190, help="tokens a row")
    parser.add_argument("--method", default="qlora")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fast", nargs="*", default=["norm", "mlp", "attention"])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for tokens in args.tokens:
            run = build(args.model, tokens, args, Path(folder))
            if args.profile:
                profile(run)
                continue
            results[str(tokens)] = measure(run, args.steps, lambda text: print(text, flush=True))
            print(tokens, results[str(tokens)]["product_share"], results[str(tokens)]["tokens_per_second"], flush=True)
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


def profile(run: Run) -> None:
    run._step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as found:
        run._step()
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=45, max_name_column_width=50))
    print(
        found.key_averages(group_by_input_shape=True).table(
            sort_by="self_cpu_time_total", row_limit=60, max_name_column_width=40, max_shapes_column_width=70
        )
    )


if __name__ == "__main__":
    main()

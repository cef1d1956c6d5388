"""Measures the product share: the share of a training step spent in the frozen model's matrix products, which every
trainer needs.

Before and after each step, the same process replays exactly that step's frozen products: each linear layer's forward
and input gradient, and the head twice on the labelled positions, with the step's shapes and type. The share is replay
time over step time. A slow machine slows both equally, so the ratio is reliable on a noisy machine.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker.training.__main__ import KERNELS, SPINS

# The training process's values. Torch's libraries read them when they are loaded.
os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)

import torch
from torch import Tensor, nn

from app.domain.jobs.spec import JobSpec
from benchmarks import machine
from benchmarks.rows import make_rows, write_rows
from worker.training.data.packing import MicroBatch, pack
from worker.training.loop.training_loop import TrainingLoop, prepare
from worker.training.ops.cross_entropy import BLOCK
from worker.training.ops.nf4 import dense_weight
from worker.training.runtime.channel import Channel
from worker.training.runtime.messages import TrainingMessage, TrainingRequest

NUM_ROWS = 96
ROWS_A_STEP = 10
"""Makes steps of about 2,050 tokens."""
BUDGETS = {1000: 1280, 2000: 2560}
"""Maps each case to its token budget per micro-batch: two micro-batches of about 1,000 tokens per step, or one."""


class Silent(Channel):
    """Replaces the channel to the worker; ignores all messages."""

    def __init__(self) -> None:
        self.stop_wish = None

    def send(self, message: TrainingMessage) -> None: ...


class Products:
    """Replays the frozen matrix products of one model on noise."""

    def __init__(self, run: TrainingLoop) -> None:
        causal = run.model.causal
        head = causal.get_output_embeddings()
        linear = [(name, module) for name, module in causal.named_modules() if isinstance(module, nn.Linear)]
        frozen = [(name, module) for name, module in linear if "lora_" not in name and module is not head]
        self.weights = [(dense_weight(module).detach(), not _reads_embeddings(name)) for name, module in frozen]
        self.head: Tensor = head.weight
        widest = max(max(weight.shape) for weight, _ in self.weights)
        self.noise = torch.randn(8192 * widest).to(run.model.plan.dtype)

    def replay(self, batches: Sequence[MicroBatch]) -> float:
        """Replay the products without padding, and return the seconds."""
        started = time.perf_counter()
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
        return time.perf_counter() - started

    def rows(self, count: int, width: int) -> Tensor:
        return self.noise[: count * width].view(count, width)


def _reads_embeddings(name: str) -> bool:
    """Return whether the module is the first layer's query, key or value, whose input needs no gradient."""
    return ".layers.0.self_attn." in name and any(part in name for part in ("q_proj", "k_proj", "v_proj"))


def measure(run: TrainingLoop, steps: int) -> dict[str, Any]:
    products = Products(run)
    shares, speeds, sizes = [], [], []
    for _ in range(steps + 1):
        step = run.state.position.step + 1
        batches = pack([run.rows.training[row] for row in run.epochs.rows(step)], run.model.micro_batch_tokens)
        before = products.replay(batches)
        started = time.perf_counter()
        run._step()
        spent = time.perf_counter() - started
        after = products.replay(batches)
        tokens = sum(batch.num_tokens for batch in batches)
        shares.append((before + after) / 2 / spent)
        speeds.append(tokens / spent)
        sizes.append(tokens / len(batches))
        print(
            f"step {step}: {len(batches)} micro-batches, {tokens} tokens, {spent:.2f} s, {shares[-1]:.3f}", flush=True
        )
    return {  # The first step includes warm-up and is not counted.
        "product_share": round(statistics.median(shares[1:]), 4),
        "product_share_each": [round(share, 4) for share in shares[1:]],
        "tokens_per_second": round(statistics.median(speeds[1:]), 1),
        "tokens_a_micro_batch": round(statistics.mean(sizes[1:])),
    }


def prepared(micro_batch_tokens: int, arguments: argparse.Namespace, folder: Path) -> TrainingLoop:
    spec = {
        "base_model": "gemma-3-270m",
        "dataset_id": "file-" + "0" * 24,
        "training": {"max_steps": arguments.steps + 1, "batch_size": ROWS_A_STEP},
    }
    resolved = {
        "resources": {"device": "cpu"},
        "training": {"gradient_checkpointing": False},
        "engine": {"compute_dtype": "bfloat16", "micro_batch_tokens": micro_batch_tokens},
    }
    request = TrainingRequest(
        spec=JobSpec.model_validate(spec).decided(2048),
        resolved=resolved,
        attempt=1,
        base_model="gemma-3-270m",
        base_model_revision=None,
        base_model_path=arguments.base_model or machine.base_model(),
        dataset_path=write_rows(folder / "rows.jsonl", make_rows(NUM_ROWS, seed=0)),
        dataset_sha256="0" * 64,
        validation_path=None,
        validation_sha256=None,
        checkpoint_path=None,
        work_dir=folder,
        cache_dir=folder / "cache",
        device="cpu",
        threads=arguments.threads,
    )
    return prepare(request, Silent())


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.product_share", description=__doc__)
    parser.add_argument("--base-model", type=Path, help="model folder (Gemma 3 270M)")
    parser.add_argument(
        "--tokens", type=int, nargs="+", choices=BUDGETS, default=list(BUDGETS), help="tokens per micro-batch"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine.describe()}
    with tempfile.TemporaryDirectory() as folder:
        for tokens in arguments.tokens:
            results[str(tokens)] = measure(prepared(BUDGETS[tokens], arguments, Path(folder)), arguments.steps)
            print(f"{tokens}: {results[str(tokens)]['product_share']}", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

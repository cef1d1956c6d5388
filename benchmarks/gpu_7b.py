"""Trains a 7B model of random weights with each method on a CUDA device; measures tokens per second and peak memory.

`python -m benchmarks.gpu_7b` writes benchmarks/results/gpu_7b.json. It needs 14 GB of disk space for the weights, and
112 GB of GPU memory for a full fine-tune. A method that does not fit is recorded with its error.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from app.domain.jobs.spec import JobSpec
from benchmarks import ours
from benchmarks.machine import describe
from benchmarks.processes import ProcessFailed
from tests.fixtures.tiny_models import build_tokenizer
from worker.training.runtime.messages import TrainingRequest

RESULT = Path(__file__).parent / "results" / "gpu_7b.json"
METHODS = ("qlora", "lora", "full")
STEPS = 8
ROWS, WORDS = 64, 500
"""Count the rows of the dataset, and about how many tokens each has."""


def build_model(folder: Path) -> Path:
    """Build a model with the shapes of Llama 2 7B."""
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    build_tokenizer(adds_bos=True).save_pretrained(folder)
    return folder


def request_for(method: str, model: Path, rows: Path, work_dir: Path) -> TrainingRequest:
    spec = {
        "base_model": "llama-7b",
        "dataset_id": "file-" + "0" * 24,
        "method": method,
        "training": {"max_steps": STEPS, "batch_size": 32, "save_every": 1_000_000},
    }
    return TrainingRequest(
        spec=JobSpec.model_validate(spec).decided(4096),
        resolved=None,
        attempt=1,
        base_model="llama-7b",
        base_model_revision=None,
        base_model_path=model,
        dataset_path=rows,
        dataset_sha256="0" * 64,
        validation_path=None,
        validation_sha256=None,
        checkpoint_path=None,
        work_dir=work_dir,
        cache_dir=model.parent / "cache",
        device="cuda",
    )


def measure(request: TrainingRequest) -> dict[str, Any]:
    try:
        report = ours.train(request, request.work_dir / "log")
    except ProcessFailed as failure:
        return {"failure": str(failure)[-500:]}
    speeds = [tokens / seconds for tokens, seconds in zip(report["step_tokens"], report["step_seconds"], strict=True)]
    return {
        "tokens_per_second": round(statistics.median(speeds[1:])),
        "peak_gpu_memory_bytes": report["peak_memory_bytes"],
        "resolved": report["resolved"],
    }


def main() -> None:
    results: dict[str, Any] = {"machine": describe(), "gpu": torch.cuda.get_device_name()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, rows = build_model(folder / "model"), folder / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": f"{row} " + "late " * WORDS}) + "\n" for row in range(ROWS)))
        torch.cuda.empty_cache()
        for method in METHODS:
            (folder / method).mkdir()
            results[method] = measure(request_for(method, model, rows, folder / method))
            print(method, results[method], flush=True)
            RESULT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

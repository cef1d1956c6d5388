"""Computes every engine's validation loss with the same code: `python -m benchmarks.evaluate TASK REPORT`.

It uses plain transformers and PEFT, row by row, in fp32 on the frozen weights that the engine trained on. NF4 weights
are dequantized first. It uses no engine's evaluation, and calls no 4-bit layer in eval mode, since bitsandbytes
permanently repacks such a layer on AVX512-BF16 CPUs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import PeftModel
from torch import nn
from torch.nn import functional as F  # noqa: N812
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.rows import read_rows, tokenized


def load_base(folder: Path, precision: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager")
    head = model.get_output_embeddings()
    if precision == "nf4":
        for layer in model.modules():
            if isinstance(layer, nn.Linear) and layer is not head:
                packed, state = quantize_4bit(layer.weight.data, quant_type="nf4", compress_statistics=True)
                layer.weight.data = dequantize_4bit(packed, state)
    return model.float().eval()


@torch.inference_mode()
def mean_loss(model: Any, rows: list[dict[str, list[int]]]) -> float:
    """Return the mean loss over all labelled tokens."""
    total, count = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        places = (labels[1:] != -100).nonzero()[:, 0]
        logits = model(input_ids=ids[None], use_cache=False, logits_to_keep=places).logits[0]
        total += float(F.cross_entropy(logits, labels[1:][places], reduction="sum"))
        count += len(places)
    return total / count


def evaluate(base: Path, precision: str, adapters: dict[str, str], rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    model = load_base(base, precision)
    losses = {"untrained": mean_loss(model, rows)}
    peft: PeftModel | None = None
    for name, folder in adapters.items():
        if peft is None:
            peft = PeftModel.from_pretrained(model, folder, adapter_name=name)
        else:
            peft.load_adapter(folder, adapter_name=name)
        peft.set_adapter(name)
        losses[name] = mean_loss(peft, rows)
        print(f"validation loss of {name} on {precision}: {losses[name]:.4f}", flush=True)
    return losses


def main() -> None:
    """Read a task with `base_model`, `rows`, `threads`, and `adapters` as precision → engine → folder."""
    task_file, report_file = map(Path, sys.argv[1:])
    task = json.loads(task_file.read_text())
    torch.set_num_threads(task["threads"])
    base = Path(task["base_model"])
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = [tokenized(row, tokenizer) for row in read_rows(Path(task["rows"]))]
    report = {precision: evaluate(base, precision, adapters, rows) for precision, adapters in task["adapters"].items()}
    report_file.write_text(json.dumps(report))


if __name__ == "__main__":
    main()

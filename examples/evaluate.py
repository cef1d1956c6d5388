"""Measures the exact match of a base model without and with an adapter, on rows that were not trained on.

Uses only transformers and PEFT, to show that the adapter needs nothing else.
"""

import argparse
import json
import logging
import time
import warnings
from pathlib import Path

# Set before the imports: the libraries warn about future renames and about kernels on a model hub.
logging.disable(logging.ERROR)
warnings.simplefilter("ignore", FutureWarning)

import torch
from peft import PeftModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

Row = dict[str, str]
BATCH_SIZE = 64


def main() -> None:
    arguments = parse_arguments()
    disable_progress_bar()
    started = time.monotonic()
    rows = read_rows(arguments.data)[: arguments.limit]
    tokenizer = AutoTokenizer.from_pretrained(arguments.base, padding_side="left")
    model = load(arguments.base, arguments.base_precision, arguments.adapter)
    if not arguments.adapter_only:
        with model.disable_adapter():
            add_answers(model, tokenizer, rows, into="base")
    add_answers(model, tokenizer, rows, into="adapter")
    report = {
        "base_precision": arguments.base_precision,
        "num_rows": len(rows),
        "exact_match": {name: exact_match(rows, name) for name in ("base", "adapter") if name in rows[0]},
        "seconds": round(time.monotonic() - started, 1),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print_report(report)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--adapter", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines file with prompt and completion")
    parser.add_argument("--base-precision", choices=["nf4", "bf16"], default="nf4")
    parser.add_argument("--adapter-only", action="store_true", help="skip the base model without the adapter")
    parser.add_argument("--limit", type=int, help="use only the first rows")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the report")
    return parser.parse_args()


def read_rows(data: Path) -> list[Row]:
    with data.open(encoding="utf-8") as lines:
        return [{"prompt": row["prompt"], "expected": row["completion"].strip()} for row in map(json.loads, lines)]


def load(base: Path, precision: str, adapter: Path) -> PeftModel:
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, quantization_config=nf4 if precision == "nf4" else None
    )
    # Prefill passes a strided view to the head. On a CPU, torch would then copy the head's weights once per row.
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: inputs[0].contiguous())
    return PeftModel.from_pretrained(model, adapter).eval()


@torch.inference_mode()
def add_answers(model: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row], into: str) -> None:
    """Store the greedy answer to each row's prompt in the row, as `into`."""
    longest = max(len(ids) for ids in tokenizer([row["expected"] for row in rows]).input_ids)
    for start in range(0, len(rows), BATCH_SIZE):
        batch = rows[start : start + BATCH_SIZE]
        prompts = tokenizer([row["prompt"] for row in batch], padding=True, return_tensors="pt")
        # The longest answer's ids include <bos>, which leaves one for <eos>. A longer answer is cut four tokens later.
        written = model.generate(**prompts, max_new_tokens=longest + 4, do_sample=False)
        texts = tokenizer.batch_decode(written[:, prompts.input_ids.shape[1] :], skip_special_tokens=True)
        for row, text in zip(batch, texts, strict=True):
            row[into] = text.strip()


def exact_match(rows: list[Row], name: str) -> float:
    return sum(row[name] == row["expected"] for row in rows) / len(rows)


def print_report(report: dict) -> None:
    console = Console()
    for row in report["rows"][:5]:
        sample = Table.grid(padding=(0, 2))
        sample.add_column()
        sample.add_column(overflow="fold")
        sample.add_row("[dim]prompt", escape(row["prompt"].strip()))
        sample.add_row("[dim]expected", escape(row["expected"]))
        for name in report["exact_match"]:
            colour = "green" if row[name] == row["expected"] else "red"
            sample.add_row(f"[dim]{name}", f"[{colour}]{escape(row[name])}")
        console.print(sample, "")
    for name, share in report["exact_match"].items():
        count = f"{round(share * report['num_rows'])} of {report['num_rows']}"
        console.print(f"exact match, {name} on {report['base_precision']}: [bold]{share:.1%}[/] ({count})")


if __name__ == "__main__":
    main()

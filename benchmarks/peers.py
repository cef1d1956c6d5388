"""Runs a peer's training in this process: `python -m benchmarks.peers TASK.json REPORT.json ADAPTER_FOLDER`.

TRL runs as from its command line (`trl.scripts.sft.main`), with the options of an engine.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers.trainer
from transformers import TrainerCallback

from benchmarks.engines import Work
from benchmarks.rows import read_rows, tokenized


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Records when steps end, how many tokens the model reads (with padding), and the largest micro-batch."""

    def __init__(self) -> None:
        self.first_forward: float | None = None
        self.step_begun: list[float] = []
        self.cpu_seconds: list[float] = []
        self.step_ended: list[float] = []
        self.micro_batches: list[int] = []
        self.losses: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.get_input_embeddings().register_forward_pre_hook(self._count)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.cpu_seconds.append(time.process_time())
        self.step_begun.append(time.monotonic())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step_ended.append(time.monotonic())
        self.cpu_seconds.append(time.process_time())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in (logs or {}):
            self.losses.append(float(logs["loss"]))

    def _count(self, _: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if self.first_forward is None:
            self.first_forward = time.monotonic()
        self.micro_batches.append(inputs[0].numel())

    def report(self) -> dict[str, Any]:
        return {
            "first_forward_at": self.first_forward,
            "training_began_at": self.step_begun[0],
            "step_ended_at": self.step_ended,
            "cpu_seconds": self.cpu_seconds[-1] - self.cpu_seconds[0],
            "num_input_tokens": sum(self.micro_batches),
            "largest_micro_batch": max(self.micro_batches),
            "losses": self.losses,
        }


def train_with_trl(work: Work, options: dict[str, Any], adapter: Path) -> None:
    from trl.scripts.sft import main, make_parser

    asked = {
        "model_name_or_path": work.base_model,
        "dataset_name": work.rows.parent,
        "output_dir": adapter,
        "use_cpu": True,
        "use_peft": True,
        "lora_r": work.rank,
        "lora_alpha": work.alpha,
        "lora_dropout": 0,
        "lora_target_modules": "all-linear",
        "load_in_4bit": True,
        "use_bnb_nested_quant": True,
        "learning_rate": work.learning_rate,
        "num_train_epochs": 1,
        "per_device_train_batch_size": work.batch_size,
        "train_sampling_strategy": "sequential",
        "seed": work.seed,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        **options,
    }
    # Values that the command line cannot express are set on the parsed arguments.
    written = {name: value for name, value in asked.items() if value is not None}
    arguments = [text for name, value in written.items() for text in (f"--{name}", str(value))]
    parsed = make_parser().parse_args_and_config(arguments, fail_with_unknown_args=False)
    for name in asked.keys() - written.keys():
        setattr(parsed[1], name, None)
    main(*parsed[:4])


def train_with_trainer(work: Work, options: dict[str, Any], adapter: Path) -> None:
    """Train as guides to QLoRA on transformers and PEFT do, but without `prepare_model_for_kbit_training`: it converts
    embeddings and head to fp32, which are two thirds of this model."""
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        BitsAndBytesConfig,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(work.seed)
    tokenizer = AutoTokenizer.from_pretrained(work.base_model)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(work.base_model, dtype=torch.bfloat16, quantization_config=nf4)
    model.requires_grad_(False)
    lora = LoraConfig(r=work.rank, lora_alpha=work.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    model.config.use_cache = False
    arguments = TrainingArguments(
        **{
            "output_dir": adapter,
            "use_cpu": True,
            "bf16": True,
            "learning_rate": work.learning_rate,
            "num_train_epochs": 1,
            "per_device_train_batch_size": work.batch_size,
            "train_sampling_strategy": "group_by_length",
            "seed": work.seed,
            "logging_steps": 1,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            **options,
        }
    )
    trainer = Trainer(
        model, arguments, DataCollatorForSeq2Seq(tokenizer), [tokenized(row, tokenizer) for row in read_rows(work.rows)]
    )
    trainer.train()
    trainer.save_model(str(adapter))


def main() -> None:
    task_file, report_file, adapter = map(Path, sys.argv[1:])
    task = json.loads(task_file.read_text())
    work = Work.model_validate(task["work"])
    torch.set_num_threads(work.threads)
    stopwatch = Stopwatch()
    transformers.trainer.DEFAULT_CALLBACKS.append(stopwatch)
    train = {"trl": train_with_trl, "trainer": train_with_trainer}[task["kind"]]
    train(work, task["options"], adapter)
    report_file.write_text(json.dumps(stopwatch.report()))


if __name__ == "__main__":
    main()

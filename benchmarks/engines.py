"""Lists the measured engines and their settings: every setting that differs from a peer's default."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Work(BaseModel):
    """Holds the settings that all engines share."""

    model_config = ConfigDict(frozen=True)

    base_model: Path
    """Is the model's folder."""
    rows: Path
    """Is a file of training rows in training order, as JSON lines."""
    num_rows: int
    batch_size: int = 8
    """Counts the rows per step."""
    learning_rate: float = 2e-4
    """Falls linearly to zero over the run, without warm-up."""
    rank: int = 16
    alpha: int = 32
    threads: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Engine:
    name: str
    title: str
    """Is the name in the README's table."""
    kind: Literal["ours", "trl", "trainer"]
    method: Literal["qlora", "lora"] = "qlora"
    options: dict[str, Any] = field(default_factory=dict)
    """Holds fields of the spec's `training`, options of `trl sft`, or TrainingArguments, by kind."""
    same_order: bool = True
    """Is false for length grouping, which reorders the rows."""
    micro_batch_as: str | None = None
    """Names the engine whose largest micro-batch sets the token budget of this Tunewright engine."""


BF16 = {"dtype": "bfloat16", "gradient_checkpointing": False}


def rows_at_once(count: int, **more: Any) -> dict[str, Any]:
    """Return TRL's options for micro-batches of `count` rows in steps of eight rows."""
    return {**BF16, "per_device_train_batch_size": count, "gradient_accumulation_steps": 8 // count, **more}


PADDING_FREE = {"padding_free": True, "max_length": None}
TRL_TRIED: dict[str, dict[str, Any]] = {
    "defaults": {},
    "8 rows, padded, checkpointing": {"dtype": "bfloat16"},
    "8 rows, padded": rows_at_once(8),
    "8 rows, padded, no autocast": rows_at_once(8, bf16=False),
    "4 rows, padded": rows_at_once(4),
    "4 rows, padded, length-grouped": rows_at_once(4, train_sampling_strategy="group_by_length"),
    "8 rows, padding-free": rows_at_once(8, **PADDING_FREE),
    "4 rows, padding-free": rows_at_once(4, **PADDING_FREE),
    "2 rows, padding-free": rows_at_once(2, **PADDING_FREE),
    "1 row": rows_at_once(1),
    "1 row, no autocast": rows_at_once(1, bf16=False),
    "1 row, eager attention": rows_at_once(1, attn_implementation="eager"),
    "packed, 512": rows_at_once(1, packing=True, max_length=512, gradient_accumulation_steps=4),
    "packed, 1024": rows_at_once(1, packing=True, max_length=1024, gradient_accumulation_steps=2),
}
"""Lists the settings that were tried to find TRL's best; `python -m benchmarks --sweep` repeats them. Packed steps
contain different rows than other steps."""
TRL_BEST = "2 rows, padding-free"

ENGINES = [
    Engine("qlora", "Tunewright, qlora", "ours"),
    Engine("lora", "Tunewright, lora", "ours", "lora"),
    Engine("qlora-min", "Tunewright, qlora, memory: min", "ours", options={"memory": "min"}),
    Engine("trl-defaults", "TRL, defaults", "trl"),
    Engine("trl-best", f"TRL, best settings found ({TRL_BEST})", "trl", options=TRL_TRIED[TRL_BEST]),
    Engine(
        "trl-batch-1",
        "TRL, batch 1, checkpointing",
        "trl",
        options={"dtype": "bfloat16", "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    ),
    Engine(
        "trl-equal-tokens",
        "TRL, batch 4, padding-free, no checkpointing",
        "trl",
        options=rows_at_once(4, **PADDING_FREE),
    ),
    Engine("qlora-equal-tokens", "Tunewright, qlora, as many tokens", "ours", micro_batch_as="trl-equal-tokens"),
    Engine(
        "trainer",
        "transformers Trainer + peft, padded, length-grouped",
        "trainer",
        options={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        same_order=False,
    ),
]
SWEEP = [ENGINES[0], *(Engine(f"trl {name}", f"TRL, {name}", "trl", options=each) for name, each in TRL_TRIED.items())]

"""Defines the options of `tunewright jobs create` that set fields of a JobSpec."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class SpecOption(NamedTuple):
    """Describes an option that sets a field of the spec. `field` is the dotted name of the field; `read` converts the
    option's text to the value."""

    name: str
    type: Any
    field: str
    help: str
    metavar: str | None = None
    read: Callable[[Any], Any] = lambda value: value


def read_pairs(words: Sequence[str]) -> dict[str, str]:
    """Parse KEY=VALUE pairs."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"{word!r} is not KEY=VALUE")
        found[key] = value
    return found


def read_duration(text: str) -> int:
    """Return the seconds of a duration such as `90`, `90m`, `12h` or `2d`."""
    match = re.fullmatch(r"(\d+)([smhd]?)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration; use seconds, or 90m, 12h, 2d")
    return int(match[1]) * SECONDS[match[2] or "s"]


def read_modules(words: Sequence[str]) -> str | list[str]:
    return "all-linear" if list(words) == ["all-linear"] else list(words)


def read_share(share: float) -> dict[str, Any]:
    return {"action": "skip", "max_share": share}


OPTIONS = (
    SpecOption("model", str, "base_model", "Base model, as listed by `tunewright models list`."),
    SpecOption("method", str, "method", "qlora, lora or full [qlora]."),
    SpecOption("objective", str, "objective", "sft, or dpo for preference data [sft]."),
    SpecOption("init_from", str, "init_from", "Adapter or checkpoint to start from, by id or name (ft:…)."),
    SpecOption("beta", float, "dpo.beta", "DPO beta: weight of the distance to the reference model [0.1]."),
    SpecOption("train_on", str, "training.train_on", "completion, assistant or all [auto]."),
    SpecOption("epochs", float, "training.epochs", "Passes over the dataset (or give --max-steps)."),
    SpecOption("max_steps", int, "training.max_steps", "Optimizer steps (or give --epochs)."),
    SpecOption("batch_size", int, "training.batch_size", "Rows per step [8]."),
    SpecOption("learning_rate", float, "training.learning_rate", "Peak learning rate [auto]."),
    SpecOption("schedule", str, "training.schedule", "Learning rate schedule: constant, linear or cosine [cosine]."),
    SpecOption("warmup_ratio", float, "training.warmup_ratio", "Share of the steps for warmup [0.03]."),
    SpecOption("optimizer", str, "training.optimizer", "adamw, adamw_8bit, paged_adamw or paged_adamw_8bit [adamw]."),
    SpecOption("weight_decay", float, "training.weight_decay", "Weight decay [0]."),
    SpecOption("max_seq_len", int, "training.max_seq_len", "Maximum tokens per row; longer rows are truncated [auto]."),
    SpecOption("seed", int, "training.seed", "Seed of all random numbers [0]."),
    SpecOption("eval_every", int, "training.eval_every", "Steps between evaluations [one epoch].", "STEPS"),
    SpecOption("save_every", int, "training.save_every", "Steps between checkpoints.", "STEPS"),
    SpecOption("memory", str, "training.memory", "auto, or min for the least memory [auto]."),
    SpecOption("rank", int, "adapter.rank", "Rank of the adapter [16]."),
    SpecOption("alpha", float, "adapter.alpha", "LoRA alpha [twice the rank]."),
    SpecOption("dropout", float, "adapter.dropout", "LoRA dropout [0]."),
    SpecOption(
        *(
            "target_modules",
            list[str],
            "adapter.target_modules",
            "Module with an adapter; may be repeated [all-linear].",
        ),
        metavar="MODULE",
        read=read_modules,
    ),
    SpecOption("validation_split", float, "validation_split", "Share of the rows held out for validation."),
    SpecOption(
        *("skip_bad_rows", float, "on_bad_rows", "Skip bad rows, up to this share of all rows.", "SHARE"),
        read=read_share,
    ),
    SpecOption("device", str, "resources.device", "auto, cuda or cpu [auto]."),
    SpecOption("gpu", list[str], "resources.gpu", "Part of the name of a GPU to train on; may be repeated.", "NAME"),
    SpecOption(
        *("label", list[str], "resources.labels", "Label that the worker must have; may be repeated.", "KEY=VALUE"),
        read=read_pairs,
    ),
    SpecOption("min_memory_gb", float, "resources.min_memory_gb", "Memory that the device must have.", "GB"),
    SpecOption("priority", int, "priority", "Priority, -100 to 100; higher runs first [0]."),
    SpecOption("max_retries", int, "max_retries", "Retries after the job itself fails [0]."),
    SpecOption(
        *(
            "max_duration",
            str,
            "max_duration_seconds",
            "Maximum running time of all attempts: seconds, or 90m, 12h, 2d.",
        ),
        metavar="TIME",
        read=read_duration,
    ),
    SpecOption("name", str, "name", "Name of the job."),
    SpecOption("suffix", str, "suffix", "Suffix of the fine-tuned model's name."),
    SpecOption(
        "metadata", list[str], "metadata", "Metadata of the job; may be repeated.", "KEY=VALUE", read=read_pairs
    ),
)


def with_spec_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add OPTIONS to a command. The command receives those that were given as `fields`, by their dotted names."""
    names = {option.name: option for option in OPTIONS}

    def run(**values: Any) -> None:
        given = {names[name]: values.pop(name) for name in names}
        fields = {option.field: option.read(value) for option, value in given.items() if value not in (None, [])}
        command(fields=fields, **values)

    own = [each for each in inspect.signature(command).parameters.values() if each.name != "fields"]
    ours = [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[option.type | None, typer.Option(metavar=option.metavar, help=option.help)],
        )
        for option in OPTIONS
    ]
    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    run.__signature__ = inspect.Signature([keywords[0], *ours, *keywords[1:]])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*keywords, *ours)}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run

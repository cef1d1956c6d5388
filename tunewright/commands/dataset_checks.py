"""Defines `tunewright datasets preview` and `tunewright datasets overlap`."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from tunewright import Client, Overlap, Preview
from tunewright.commands.options import AsJson
from tunewright.display import console, notes, print_facts, print_json, sanitize_text

Id = Annotated[str, typer.Argument(help="The dataset's id, file-….", metavar="FILE_ID")]
LABELLED = "bold green reverse"
OPEN_MARK, CLOSE_MARK = "[[", "]]"
"""Enclose trained text in output without colour."""
MAX_PAIRS = 20
OPTIONAL_COUNTS = (
    "num_validation_rows",
    "num_template_mismatch_rows",
    "num_answers_without_end_token",
    "num_literal_special_tokens",
    "num_reasoning_turns",
    "num_unrendered_reasoning",
    "num_unrendered_names",
)
"""Lists the counts that are omitted if they are zero."""


def preview(
    id: Id,
    model: Annotated[str, typer.Option(metavar="NAME", help="Base model, as listed by `tunewright models list`.")],
    rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of first rows to show.")] = None,
    line: Annotated[
        list[int] | None, typer.Option(min=1, metavar="LINE", help="Line of a row to show; may be repeated.")
    ] = None,
    max_seq_len: Annotated[int | None, typer.Option(metavar="N", help="Truncate rows to this many tokens.")] = None,
    objective: Annotated[str | None, typer.Option(metavar="WHAT", help="sft, or dpo for preference data.")] = None,
    train_on: Annotated[str | None, typer.Option(metavar="WHAT", help="auto, completion, assistant or all.")] = None,
    reasoning: Annotated[str | None, typer.Option(metavar="WHAT", help="train, context or drop.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Rows per step.")] = None,
    validation_split: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of the rows held out for validation.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the split and of the batches.")] = None,
    skip_bad_rows: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Skip bad rows, up to this share, as a job does.")
    ] = None,
    memory: Annotated[str | None, typer.Option(metavar="WHAT", help="auto or min.")] = None,
    device: Annotated[str | None, typer.Option(metavar="KIND", help="auto, cuda or cpu.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a dataset as a model would see it.

    Prints rows as text with the trained parts highlighted, and totals for the file. Without a terminal, or
    with NO_COLOR set, [[ and ]] enclose the trained parts.

    Exits with 1 if a job with these settings would fail."""
    given: dict[str, Any] = {
        "rows": line or rows,
        "max_seq_len": max_seq_len,
        "objective": objective,
        "train_on": train_on,
        "reasoning": reasoning,
        "batch_size": batch_size,
        "validation_split": validation_split,
        "seed": seed,
        "on_bad_rows": {"action": "skip", "max_share": skip_bad_rows} if skip_bad_rows is not None else None,
        "memory": memory,
        "device": device,
    }
    spec = {name: value for name, value in given.items() if value is not None}
    with Client() as client:
        created = client.create_preview(id, base_model=model, **spec)
        done = client.wait_for_preview(id, created.id)
    if as_json:
        print_json(done.raw)
    elif done.totals is not None:
        for row in done.rows:
            show_row(row)
        show_totals(done, done.totals)
    exit_if_failed(done)
    if done.totals and (failure := done.totals["predicted_failure"]):
        notes.print(
            sanitize_text(f"tunewright: A job would fail: {failure['message']} [{failure['reason']}]"), style="red"
        )
        raise typer.Exit(1)


def exit_if_failed(done: Preview | Overlap) -> None:
    if done.failure:
        notes.print(sanitize_text(f"tunewright: {done.failure['message']} [{done.failure['code']}]"), style="red")
        raise typer.Exit(1)


def show_row(row: dict[str, Any]) -> None:
    facts = [f"{row['num_tokens']:,} tokens, {row['num_labelled_tokens']:,} labelled"]
    facts += [f"{row['num_truncated_tokens']:,} truncated"] if row["num_truncated_tokens"] else []
    facts += ["in the validation split"] if row["in_validation_split"] else []
    facts += ["dropped: no trainable text"] if row["dropped"] else []
    answer = f", {row['answer']}" if row.get("answer") else ""
    console.print(Text(f"line {row['line']}{answer}: {', '.join(facts)}", style="bold"))
    console.print(
        format_coloured(row) if console.is_terminal and not console.no_color else format_bracketed(row), soft_wrap=True
    )
    console.print()


def format_coloured(row: dict[str, Any]) -> Text:
    shown = Text(overflow="fold")
    for text, style in iterate_styled_texts(row):
        shown.append(text, style=style)
    return shown


def format_bracketed(row: dict[str, Any]) -> Text:
    """Mark trained text with brackets, for output without colour."""
    shown, is_open = "", False
    for text, style in iterate_styled_texts(row):
        if (style == LABELLED) != is_open:
            is_open = style == LABELLED
            shown += OPEN_MARK if is_open else CLOSE_MARK
        shown += text
    return Text(shown + (CLOSE_MARK if is_open else ""))


def iterate_styled_texts(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the texts of the row, each with its style."""
    middle = len(row["tokens"]) - len(row["tokens"]) // 2
    for number, token in enumerate(row["tokens"]):
        if number == middle and row["num_omitted_tokens"]:
            yield f" … {row['num_omitted_tokens']:,} tokens … ", "dim"
        yield sanitize_text(token["text"]), LABELLED if token["labelled"] else ""
    if row["num_truncated_tokens"]:
        yield sanitize_text(row["truncated_text"]), "dim strike"


def show_totals(preview: Preview, totals: dict[str, Any]) -> None:
    plan = totals["device_plan"]
    missing = ", ".join(map(str, totals["missing_lines"]))
    counts = {
        "rows": "num_rows",
        "validation rows": "num_validation_rows",
        "dropped rows": "num_dropped_rows",
        "truncated rows": "num_truncated_rows",
        "tokens": "num_tokens",
        "labelled tokens": "num_labelled_tokens",
        "template mismatch rows": "num_template_mismatch_rows",
        "answers without an end token": "num_answers_without_end_token",
        "literal special tokens": "num_literal_special_tokens",
        "reasoning turns": "num_reasoning_turns",
        "reasoning not rendered": "num_unrendered_reasoning",
        "names not rendered": "num_unrendered_names",
        "steps per epoch": "steps_per_epoch",
    }
    facts = {
        "model": preview.spec["base_model"],
        "chat template": totals["chat_template"],
        "max tokens per row": f"{totals['max_seq_len']:,}",
        "trained on": totals["train_on"],
        **{name: f"{totals[key]:,}" for name, key in counts.items() if totals[key] or key not in OPTIONAL_COUNTS},
        "micro-batches per step": f"{totals['micro_batches_per_step']:g} "
        f"(at most {totals['max_micro_batches_per_step']:,})",
        "packing saves": f"{totals['padding_saved_share']:.1%} of {totals['num_padded_tokens']:,} padded tokens",
        "device plan": f"{plan['device_name'] or plan['device']} ({plan['worker']}), "
        f"{plan['micro_batch_tokens']:,} tokens per micro-batch",
        "skipped rows": ", ".join(f"{count:,} {code}" for code, count in sorted(totals["skipped_rows"].items())),
        "lines without a row": missing,
    }
    print_facts(facts)


def overlap(
    id: Id,
    validation_id: Annotated[str, typer.Argument(help="The validation dataset's id.", metavar="VALIDATION_ID")],
    as_json: AsJson = False,
) -> None:
    """List rows that two datasets have in common.

    These are the rows of the validation dataset that the dataset also contains. Exits with 1 if there are any."""
    with Client() as client:
        created = client.create_overlap(id, validation_id)
        done = client.wait_for_overlap(id, created.id)
    if as_json:
        print_json(done.raw)
    elif done.totals is not None:
        show_overlap(done, done.totals)
    exit_if_failed(done)
    if done.totals and done.totals["num_normalised"]:
        raise typer.Exit(1)


def show_overlap(overlap: Overlap, totals: dict[str, int]) -> None:
    shown = overlap.pairs[:MAX_PAIRS]
    pairs = [
        f"validation line {pair['validation_line']:,} = line {pair['line']:,}"
        + ("" if pair["exact"] else " (normalised)")
        for pair in shown
    ]
    if totals["num_normalised"] > len(shown):
        pairs.append(f"and {totals['num_normalised'] - len(shown):,} more")
    facts = {
        "rows": f"{totals['num_rows']:,}",
        "validation rows": f"{totals['num_validation_rows']:,}",
        "shared rows": f"{totals['num_normalised']:,}",
        "identical rows": f"{totals['num_exact']:,}",
        "pairs": "\n".join(pairs),
    }
    print_facts(facts)

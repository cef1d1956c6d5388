"""Defines `tunewright datasets preview` and `tunewright datasets overlap`."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from tunewright import Client, Overlap, Preview
from tunewright.commands.options import AsJson
from tunewright.display import clean, console, notes, print_facts, print_json

Id = Annotated[str, typer.Argument(help="The dataset's id, file-….", metavar="FILE_ID")]
LABELLED = "bold green reverse"
OPENED, CLOSED = "[[", "]]"
"""Mark trained text where there is no colour."""
SHOWN_PAIRS = 20
UNUSUAL = (
    "num_validation_rows",
    "num_template_mismatch_rows",
    "num_answers_without_end_token",
    "num_literal_special_tokens",
    "num_reasoning_turns",
    "num_unrendered_reasoning",
    "num_unrendered_names",
)
"""Lists the counts that are shown only if they are not zero."""


def preview(
    id: Id,
    model: Annotated[str, typer.Option(metavar="NAME", help="Base model of the registry.")],
    rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="Show so many of the first rows.")] = None,
    line: Annotated[
        list[int] | None, typer.Option(min=1, metavar="LINE", help="Show the row on this line; may be repeated.")
    ] = None,
    max_seq_len: Annotated[int | None, typer.Option(metavar="N", help="Tokens a row is cut to.")] = None,
    objective: Annotated[str | None, typer.Option(metavar="WHAT", help="sft, or dpo for preferences.")] = None,
    train_on: Annotated[str | None, typer.Option(metavar="WHAT", help="auto, completion, assistant or all.")] = None,
    reasoning: Annotated[str | None, typer.Option(metavar="WHAT", help="train, context or drop.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Rows a step.")] = None,
    validation_split: Annotated[float | None, typer.Option(metavar="SHARE", help="Rows held back.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Draws what is held back, and the steps.")] = None,
    skip_bad_rows: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Leave bad rows out, as a job does, up to this share.")
    ] = None,
    memory: Annotated[str | None, typer.Option(metavar="WHAT", help="auto or min.")] = None,
    device: Annotated[str | None, typer.Option(metavar="KIND", help="auto, cuda or cpu.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a dataset as a model would see it: rows as text with the trained parts highlighted, and totals of the file.

    In a pipe, or if NO_COLOR is set, [[ and ]] enclose the trained parts.

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
        asked = client.create_preview(id, base_model=model, **spec)
        done = client.wait_for_preview(id, asked.id)
    if as_json:
        print_json(done.raw)
    elif done.totals is not None:
        for row in done.rows:
            show_row(row)
        show_totals(done, done.totals)
    conclude(done)
    if done.totals and (refusal := done.totals["predicted_failure"]):
        notes.print(clean(f"tunewright: a job would fail: {refusal['message']} [{refusal['reason']}]"), style="red")
        raise typer.Exit(1)


def conclude(done: Preview | Overlap) -> None:
    if done.failure:
        notes.print(clean(f"tunewright: {done.failure['message']} [{done.failure['code']}]"), style="red")
        raise typer.Exit(1)


def show_row(row: dict[str, Any]) -> None:
    facts = [f"{row['num_tokens']:,} tokens, {row['num_labelled_tokens']:,} carry loss"]
    facts += [f"{row['num_truncated_tokens']:,} cut off"] if row["num_truncated_tokens"] else []
    facts += ["held back for validation"] if row["in_validation_split"] else []
    facts += ["left out: nothing to learn from"] if row["dropped"] else []
    answer = f", {row['answer']}" if row.get("answer") else ""
    console.print(Text(f"line {row['line']}{answer}: {', '.join(facts)}", style="bold"))
    console.print(coloured(row) if console.is_terminal and not console.no_color else bracketed(row), soft_wrap=True)
    console.print()


def coloured(row: dict[str, Any]) -> Text:
    shown = Text(overflow="fold")
    for text, style in pieces(row):
        shown.append(text, style=style)
    return shown


def bracketed(row: dict[str, Any]) -> Text:
    """Mark trained text with brackets, for a pipe or if NO_COLOR is set."""
    shown, is_open = "", False
    for text, style in pieces(row):
        if (style == LABELLED) != is_open:
            is_open = style == LABELLED
            shown += OPENED if is_open else CLOSED
        shown += text
    return Text(shown + (CLOSED if is_open else ""))


def pieces(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the row's texts, each with its style."""
    middle = len(row["tokens"]) - len(row["tokens"]) // 2
    for number, token in enumerate(row["tokens"]):
        if number == middle and row["num_omitted_tokens"]:
            yield f" … {row['num_omitted_tokens']:,} tokens … ", "dim"
        yield clean(token["text"]), LABELLED if token["labelled"] else ""
    if row["num_truncated_tokens"]:
        yield clean(row["truncated_text"]), "dim strike"


def show_totals(preview: Preview, totals: dict[str, Any]) -> None:
    plan = totals["device_plan"]
    missing = ", ".join(map(str, totals["missing_lines"]))
    counts = {
        "rows": "num_rows",
        "held back": "num_validation_rows",
        "left out (nothing to learn from)": "num_dropped_rows",
        "cut": "num_truncated_rows",
        "tokens": "num_tokens",
        "of these carry loss": "num_labelled_tokens",
        "rows of an unstable template": "num_template_mismatch_rows",
        "answers without an end": "num_answers_without_end_token",
        "special tokens in texts": "num_literal_special_tokens",
        "answers with reasoning": "num_reasoning_turns",
        "of these rendered without it": "num_unrendered_reasoning",
        "names that are not rendered": "num_unrendered_names",
        "steps an epoch": "steps_per_epoch",
    }
    facts = {
        "model": preview.spec["base_model"],
        "chat template": totals["chat_template"],
        "tokens a row at most": f"{totals['max_seq_len']:,}",
        "trained on": totals["train_on"],
        **{name: f"{totals[key]:,}" for name, key in counts.items() if totals[key] or key not in UNUSUAL},
        "micro-batches a step": f"{totals['micro_batches_per_step']:g} "
        f"(at most {totals['max_micro_batches_per_step']:,})",
        "packing saves": f"{totals['padding_saved_share']:.1%} of {totals['num_padded_tokens']:,} padded tokens",
        "counted for": f"{plan['device_name'] or plan['device']} ({plan['worker']}), "
        f"{plan['micro_batch_tokens']:,} tokens a micro-batch",
        "skipped": ", ".join(f"{count:,} {code}" for code, count in sorted(totals["skipped_rows"].items())),
        "no row on lines": missing,
    }
    print_facts(facts)


def overlap(
    id: Id,
    validation_id: Annotated[str, typer.Argument(help="The validation dataset's id.", metavar="VALIDATION_ID")],
    as_json: AsJson = False,
) -> None:
    """List the rows of a validation dataset that the dataset also contains. Exits with 1 if there are any."""
    with Client() as client:
        asked = client.create_overlap(id, validation_id)
        done = client.wait_for_overlap(id, asked.id)
    if as_json:
        print_json(done.raw)
    elif done.totals is not None:
        show_overlap(done, done.totals)
    conclude(done)
    if done.totals and done.totals["num_normalised"]:
        raise typer.Exit(1)


def show_overlap(overlap: Overlap, totals: dict[str, int]) -> None:
    shown = overlap.pairs[:SHOWN_PAIRS]
    pairs = [
        f"line {pair['validation_line']:,} is line {pair['line']:,}" + ("" if pair["exact"] else ", nearly")
        for pair in shown
    ]
    if totals["num_normalised"] > len(shown):
        pairs.append(f"and {totals['num_normalised'] - len(shown):,} more")
    facts = {
        "rows": f"{totals['num_rows']:,}",
        "validation rows": f"{totals['num_validation_rows']:,}",
        "of these also training rows": f"{totals['num_normalised']:,}",
        "to the letter": f"{totals['num_exact']:,}",
        "which": "\n".join(pairs),
    }
    print_facts(facts)

"""Writes the README's table from the results' JSON: `python -m benchmarks.table`."""

import json
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT

README = ROOT / "README.md"
RESULTS = Path(__file__).parent / "results"
RESULT = RESULTS / "gemma-3-270m.json"
BEGIN, END = "<!-- benchmarks: made by python -m benchmarks.table -->", "<!-- benchmarks end -->"
NOTHING_YET = "No results yet. Run `make bench`."


def render(result: dict[str, Any] | None) -> str:
    if result is None:
        return NOTHING_YET
    return "\n\n".join([introduction(result), engines(result), *([bars(result)] if result["bars"] else [])])


def introduction(result: dict[str, Any]) -> str:
    work, machine = result["work"], result["machine"]
    libraries = machine["libraries"]
    versions = ", ".join(
        f"{name} {libraries[name]}" for name in ("torch", "transformers", "peft", "trl", "bitsandbytes")
    )
    return (
        f"Gemma 3 270M on {machine['num_cpus']} cores ({machine['cpu']}, {work['threads']} threads): "
        f"{work['num_rows']} rows with {work['num_tokens']:,} tokens ({work['num_labelled']:,} labelled), "
        f"{work['batch_size']} rows a step, LoRA of rank {work['rank']} on all linear layers, medians of "
        f"{result['repeats']} interleaved repeats. {machine['date']}, commit {machine['commit']}, load average "
        f"{machine['load_average'][0]:.2f} before; {versions}."
    )


def engines(result: dict[str, Any]) -> str:
    header = ["", "tokens/s", "labelled tokens/s", "peak memory", "first step after", "validation loss"]
    lines = [
        [
            engine["title"],
            f"{engine['tokens_per_second']:.0f}",
            f"{engine['labelled_tokens_per_second']:.0f}",
            f"{engine['peak_memory_bytes'] / 1e9:.2f} GB",
            f"{engine['seconds_to_first_step']:.1f} s",
            "" if engine["validation_loss"] is None else f"{engine['validation_loss']:.4f}",
        ]
        for engine in result["engines"]
    ]
    return markdown(header, lines)


def bars(result: dict[str, Any]) -> str:
    lines = [
        [
            bar["text"],
            "" if bar["value"] is None else f"{bar['value']:.3g}",
            f"{bar['side']} {bar['limit']:g}",
            bar["verdict"],
        ]
        for bar in result["bars"]
    ]
    return markdown(["bar", "measured", "wanted", ""], lines)


def markdown(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def section(page: str) -> str:
    """Return the text between the markers."""
    return page.split(BEGIN)[1].split(END)[0].strip()


def write_into_readme(result: dict[str, Any] | None) -> None:
    page = README.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n\n{render(result)}\n\n{END}{after}", encoding="utf-8")


def recorded() -> dict[str, Any] | None:
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else None


if __name__ == "__main__":
    write_into_readme(recorded())

"""Measures the web page in Chromium over a real stack: `python -m benchmarks.page --output results.json`.

The parts are the first view, the first curve, fifty live jobs in the list, eight in the comparison, the memory while
eight jobs are compared, and zooms into a curve of ten million steps. `--only` measures some parts and keeps the other
ones of the output file.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.bars import Bar
from benchmarks.page.browsing import open_browser
from benchmarks.page.first import measure_first_curve, measure_first_view
from benchmarks.page.live import measure_compare, measure_list
from benchmarks.page.zoom import measure_zoom
from tests.page.browser import why_missing
from tests.page.demo_data import Demo
from tests.page.screenshots import demonstration
from tests.page.soak import find_faults, soak
from tests.page.stack import PageStack

Part = Callable[[PageStack, Demo], dict[str, Any]]
SOAK_MINUTES, SECONDS_BETWEEN_STEPS = 3.0, 1.0


def measure_memory(stack: PageStack, demo: Demo) -> dict[str, Any]:
    found = soak(stack, demo, SOAK_MINUTES, SECONDS_BETWEEN_STEPS)
    if faults := find_faults(found):
        raise RuntimeError("\n".join(faults))
    return {name: value for name, value in found.items() if name not in ("problems", "measured")}


PARTS: dict[str, Part] = {
    "first_view": measure_first_view,
    "first_curve": measure_first_curve,
    "list": measure_list,
    "compare": measure_compare,
    "memory": measure_memory,
    "zoom": measure_zoom,
}


def judge(parts: dict[str, Any]) -> list[dict[str, Any]]:
    def find(part: str, *names: str) -> float | None:
        value: Any = parts.get(part)
        for name in names:
            value = None if value is None else value[name]
        return None if value is None else float(value)

    bars = [
        Bar("bytes of the first view, cold cache", find("first_view", "num_bytes"), "at most", 120_000),
        Bar("click to the first curve, median, ms", find("first_curve", "cold", "p50_ms"), "at most", 1000),
        Bar("end of a drag to the finer curve, p90, ms", find("zoom", "finer_curve", "p90_ms"), "at most", 150),
        Bar("rows that were behind by more than 3 s", find("list", "num_behind"), "at most", 0),
    ]
    return [bar.as_json() for bar in bars]


def measure(names: list[str], parts: dict[str, Any]) -> dict[str, Any]:
    described = machine.describe()
    with open_browser() as browser:
        described["chromium"] = browser.version
    with demonstration() as (stack, demo):
        for name in names:
            before = machine.load_average()
            parts[name] = PARTS[name](stack, demo) | {"load_average": [before[0], machine.load_average()[0]]}
            print(name, json.dumps(parts[name]), flush=True)
    return {"machine": described, "bars": judge(parts), "parts": {name: parts[name] for name in PARTS if name in parts}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure (all)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "results" / "page.json")
    arguments = parser.parse_args()
    if reason := why_missing():
        sys.exit(reason)
    output: Path = arguments.output
    known = json.loads(output.read_text())["parts"] if output.exists() else {}
    result = measure(arguments.only, known)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for bar in result["bars"]:
        print(f"{bar['verdict']}: {bar['text']}: {bar['value']} (at most {bar['limit']})", flush=True)


if __name__ == "__main__":
    main()

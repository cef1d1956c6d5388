"""Uploads malformed files to a real server: it must answer, and each dataset must become `ready` or `invalid`."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2

from app.domain.file_name import is_unsafe_filename
from tests.acceptance.conftest import start_stack, stop_stack
from tests.fuzz.datasets import inspect, make_file

MOST_SECONDS = 300.0
"""Limit for all inspections together."""


def check_uploads(seeds: Sequence[int], scratch: Path) -> dict[int, int]:
    """Upload the files of the seeds; return how many uploads were answered with each status."""
    statuses: dict[int, int] = {}
    with tempfile.TemporaryDirectory(prefix="tunewright-fuzz-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        stack = start_stack(Path(folder) / "data")
        try:
            key = (stack.data / "api_key").read_text().strip()
            with httpx2.Client(
                base_url=stack.server["url"], headers={"Authorization": f"Bearer {key}"}, timeout=60
            ) as http:
                ids = {}
                for seed in seeds:
                    answer = upload(http, seed)
                    statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                    assert answer.status_code < 500, f"seed {seed}: {answer.status_code} {answer.text[:500]}"
                    if answer.is_success:
                        ids[seed] = answer.json()["id"]
                for seed, id in ids.items():
                    check_dataset(http, seed, id, scratch)
        finally:
            stop_stack(stack)
    return statuses


def upload(http: httpx2.Client, seed: int) -> httpx2.Response:
    name, data, named = make_file(seed)
    params = {"format": named} if named else {}
    return http.post("/datasets", params=params, files={"file": (name or "rows", data)})


def check_dataset(http: httpx2.Client, seed: int, id: str, scratch: Path) -> None:
    """Check that the server reports what the same code reports here."""
    until = time.monotonic() + MOST_SECONDS
    while (dataset := ask(http, f"/datasets/{id}"))["state"] == "inspecting":
        assert time.monotonic() < until, f"seed {seed} is still being inspected"
        time.sleep(0.2)
    name, data, named = make_file(seed)
    found = inspect(scratch, dataset["filename"], data, named, unsafe_filename=is_unsafe_filename(name))
    reported = (dataset["state"], dataset["num_examples"], dataset["problem_counts"])
    state = "ready" if found.report.valid else "invalid"
    assert reported == (state, found.report.num_examples, found.report.problem_counts), (
        f"seed {seed} ({name!r}): {reported}"
    )
    problems = ask(http, f"/datasets/{id}/problems?limit=1000")["items"]
    assert problems == [problem.model_dump(mode="json") for problem in found.problems][:1000], f"seed {seed}"


def ask(http: httpx2.Client, path: str) -> dict[str, object]:
    answer = http.get(path)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:500]}"
    body: dict[str, object] = answer.json()
    return body

"""`python -m tests.fuzz.faces`: Schemathesis against a running server, by the OpenAPI document of both its faces.

It sends what the document allows and what it forbids, follows links from one answer to the next request, and exits
with 1 for any answer of 5xx, any status, type or shape that the document does not tell of.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from tests.acceptance.conftest import ROOT, Stack, start_stack, stop_stack
from tests.fixtures.tiny_models import build_tiny_model

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
PHASES = ("examples", "coverage", "fuzzing", "stateful")
COUNTED = re.compile(r"([\d,]+) generated")
SLOW = "/jobs/{id}/stream"
"""Answers for as long as a job lives."""


def check_face(stack: Stack, document: str, num_examples: int, seed: int, report: Path) -> dict[str, Any]:
    """What Schemathesis says of the face that `document` describes, in numbers."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{stack.reach['url']}{document}",
        "--header", f"Authorization: Bearer {(stack.data / 'api_key').read_text().strip()}",
        "--checks", ",".join(CHECKS), "--phases", ",".join(PHASES), "--max-examples", str(num_examples),
        "--seed", str(seed), "--exclude-path", SLOW, "--continue-on-failure", "--request-timeout", "60",
        "--generation-database", "none", "--no-color",
    ]  # fmt: skip
    with report.open("w", encoding="utf-8") as lines:
        status = subprocess.run(command, cwd=stack.data, stdout=lines, stderr=subprocess.STDOUT).returncode
    told = report.read_text(encoding="utf-8")
    print(told[-4000:], flush=True)
    cases = max((int(count.replace(",", "")) for count in COUNTED.findall(told)), default=0)
    return {"document": document, "cases": cases, "exit": status}


def check(documents: Sequence[str], num_examples: int, seed: int, reports: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="tunewright-fuzz-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        stack = start_stack(Path(folder) / "data")
        try:
            add = ["add", "tiny", "--path", str(build_tiny_model(Path(folder) / "tiny"))]
            subprocess.run([sys.executable, "-m", "app.models", *add], cwd=ROOT, env=stack.environment(), check=True)
            return [
                check_face(
                    stack, document, num_examples, seed, reports / f"{document.strip('/').replace('/', '-')}.log"
                )
                for document in documents
            ]
        finally:
            stop_stack(stack)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="at most, of each operation in each phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", nargs="+", default=["/openapi.json", "/v1/openapi.json"])
    parser.add_argument("--reports", type=Path, default=Path(tempfile.gettempdir()), help="folder for what it says")
    parser.add_argument("--output", type=Path, help="a JSON file for the result")
    given = parser.parse_args()
    faces = check(given.documents, given.examples, given.seed, given.reports)
    result = {"machine": machine.describe(), "seed": given.seed, "faces": faces}
    result["cases"] = sum(face["cases"] for face in faces)
    print(json.dumps(result, indent=1))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(any(face["exit"] for face in faces))


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m tests.fuzz.faces`: Schemathesis against a running server, by the OpenAPI document of both its faces.

It sends what the document allows and what it forbids, follows links from one answer to the next request, and exits
with 1 for any answer of 5xx, any status, type or shape that the document does not tell of, and for an operation that
nothing has ever succeeded at.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from benchmarks import machine
from tests.acceptance.conftest import ROOT, start_stack, stop_stack
from tests.fixtures.receiver import Receiver
from tests.fixtures.tiny_models import build_tiny_model
from tests.fuzz import tally
from tests.fuzz.bindings import NATIVE, OPENAI, Rules, configure
from tests.fuzz.supply import Supply, make_supply

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")
COUNTED: Final = re.compile(r"([\d,]+) generated")
LINKS: Final = re.compile(r"(\d+) covered / (\d+) selected")
SLOW: Final = "/jobs/{id}/stream"
"""Answers for as long as a job lives."""
NEVER: Final = ("POST /fine_tuning/alpha/graders/run", "POST /fine_tuning/alpha/graders/validate")
"""Not offered: what they answer is always that."""
NUM: Final = 3
"""Of each noun, and of its spares."""


class Face(NamedTuple):
    name: str
    document: str
    rules: Rules


FACES: Final = (Face("native", "/openapi.json", NATIVE), Face("openai", "/v1/openapi.json", OPENAI))


class Server(NamedTuple):
    url: str
    key: str

    def connect(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60)


def check_face(
    server: Server, face: Face, supply: Supply, folder: Path, examples: int, seed: int, phases: Sequence[str] = PHASES
) -> dict[str, Any]:
    """What Schemathesis says of a face, in numbers; its own words are in the log in the folder."""
    document = httpx.get(server.url + face.document).json()
    settings = configure(face.rules, document, supply, folder / f"{face.name}.toml")
    counted, log = folder / f"{face.name}.json", folder / f"{face.name}.log"
    command = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(settings),
        "run", f"{server.url}{face.document}", "--header", f"Authorization: Bearer {server.key}",
        "--checks", ",".join(CHECKS), "--phases", ",".join(phases), "--max-examples", str(examples),
        "--seed", str(seed), "--continue-on-failure", "--request-timeout", "60",
        "--generation-database", "none", "--no-color",
    ]  # fmt: skip
    command += ["--exclude-path", SLOW] if SLOW in document["paths"] else []
    counted.unlink(missing_ok=True)
    environment = os.environ | {"SCHEMATHESIS_HOOKS": tally.__file__, tally.TALLY: str(counted)}
    with log.open("w", encoding="utf-8") as lines:
        status = subprocess.run(command, cwd=folder, env=environment, stdout=lines, stderr=subprocess.STDOUT).returncode
    said = log.read_text(encoding="utf-8")
    assert counted.exists(), said
    return {"face": face.name, "exit": status} | summarize(document, said, json.loads(counted.read_text()))


def summarize(document: Mapping[str, Any], said: str, counted: Mapping[str, Any]) -> dict[str, Any]:
    statuses: dict[str, dict[str, int]] = counted["statuses"]
    totals = Counter[str]()
    for found in statuses.values():
        totals.update(found)
    names = [f"{method.upper()} {path}" for path, ways in document["paths"].items() if path != SLOW for method in ways]
    links = LINKS.search(said)
    return {
        "cases": max((int(count.replace(",", "")) for count in COUNTED.findall(said)), default=0),
        "operations": len(names),
        "statuses": dict(sorted(totals.items())),
        "links": int(links[2]) if links else 0,
        "links_followed": len(counted["links"]),
        "transitions": sum(counted["links"].values()),
        "succeeded": {name: share_of_successes(statuses.get(name, {})) for name in names},
    }


def share_of_successes(statuses: Mapping[str, int]) -> str:
    good = sum(count for status, count in statuses.items() if status.startswith("2"))
    return f"{good} of {sum(statuses.values())}"


def never_succeeded(face: Mapping[str, Any]) -> list[str]:
    return [name for name, share in face["succeeded"].items() if share.startswith("0 ") and name not in NEVER]


def check(faces: Sequence[Face], examples: int, seed: int, reports: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="tunewright-fuzz-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        stack = start_stack(
            Path(folder) / "data", TUNEWRIGHT_WEBHOOK_ALLOW="127.0.0.1", TUNEWRIGHT_TRAINING_THREADS="1"
        )
        try:
            add = ["add", "tiny", "--path", str(build_tiny_model(Path(folder) / "tiny"))]
            subprocess.run([sys.executable, "-m", "app.models", *add], cwd=ROOT, env=stack.environment(), check=True)
            with Receiver().serving() as receiver:
                key = (stack.data / "api_key").read_text().strip()
                server = Server(stack.reach["url"], key)
                found = []
                for face in faces:
                    with server.connect() as http:
                        supply = make_supply(http, receiver.url, NUM, NUM)
                    found.append(check_face(server, face, supply, reports, examples, seed))
                return found
        finally:
            stop_stack(stack)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="at most, of each operation in each phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faces", nargs="+", default=[face.name for face in FACES], help="native, openai")
    parser.add_argument("--reports", type=Path, help="folder for what Schemathesis says; a new temporary one")
    parser.add_argument("--output", type=Path, help="a JSON file for the result")
    given = parser.parse_args()
    reports = given.reports or Path(tempfile.mkdtemp(prefix="tunewright-faces-"))
    chosen = [face for face in FACES if face.name in given.faces]
    faces = check(chosen, given.examples, given.seed, reports)
    result = {
        "machine": machine.describe(),
        "seed": given.seed,
        "cases": sum(face["cases"] for face in faces),
        "faces": faces,
    }
    print(json.dumps(result, indent=1))
    for face in faces:
        print(f"{face['face']}: exit {face['exit']}, see {reports / face['face']}.log; {never_succeeded(face)}")
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(any(face["exit"] or never_succeeded(face) for face in faces))


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m tests.fuzz.faces` runs Schemathesis against a running server, with the OpenAPI documents of both faces.

It sends what the document allows and what it forbids, and follows links from one answer to the next request. It exits
with 1 for any 5xx, for any status, type or shape that the document does not describe, and for an operation that never
succeeded.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2

from benchmarks import machine
from tests.acceptance.conftest import ROOT, Stack, start_stack, stop_stack
from tests.fixtures.receiver import Receiver
from tests.fixtures.tiny_models import build_tiny_model
from tests.fuzz import hooks
from tests.fuzz.bindings import NATIVE, OPENAI, PROJECTS, Rules, configure
from tests.fuzz.supply import Supply, cancel_all, make_keys, make_projects, make_supply

UNCHECKED: Final = "positive_data_acceptance"
"""The check that is left out: a document cannot say which ids exist and which values fit together."""
PHASES: Final = ("examples", "coverage", "fuzzing")
COUNTED: Final = re.compile(r"([\d,]+) generated")
LINKS: Final = re.compile(r"(\d+) covered / (\d+) selected")
SLOW: Final = "/jobs/{id}/stream"
"""The route that answers as long as a job runs."""
NEVER: Final = ("POST /fine_tuning/alpha/graders/run", "POST /fine_tuning/alpha/graders/validate", "POST /session")
"""Operations that always refuse: what is not offered, and signing in from another origin than the server's."""
OF_ADMINS: Final = re.compile(r"\w+ /(projects|keys)|(POST|DELETE) /models")
"""Operations that are refused to a key without the scope `admin`."""
NUM: Final = 3
"""Number of values of each noun, and of disposable ones."""


class Face(NamedTuple):
    name: str
    document: str
    rules: Rules
    paths: str = "."
    """Regular expression that selects the paths."""
    unchecked: Sequence[str] = ()
    """Checks left out in addition to UNCHECKED."""


FACES: Final = (Face("native", "/openapi.json", NATIVE), Face("openai", "/v1/openapi.json", OPENAI))
DELETIONS: Final = ("use_after_free", "ensure_resource_availability")
"""Checks that do not fit deletions: a new project has none, and a deleted project keeps its deletion."""
PROJECTS_FACE: Final = Face("projects", "/openapi.json", PROJECTS, "^/(projects|keys)", DELETIONS)
"""Needs an administrator's key. It runs last, because it changes and deletes any project and key that it finds."""
ALL: Final = (*FACES, PROJECTS_FACE)


class Server(NamedTuple):
    url: str
    key: str

    def connect(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60)


class Effort(NamedTuple):
    examples: int
    """Maximum for each operation in each phase."""
    seconds: int
    """Time for following links."""
    phases: Sequence[str] = PHASES
    """Phases in addition to following links."""


def check_face(server: Server, face: Face, supply: Supply, folder: Path, effort: Effort, seed: int) -> dict[str, Any]:
    """Run Schemathesis against a face; return its results in numbers. Its output is in two logs in the folder."""
    document = httpx2.get(server.url + face.document).json()
    settings = configure(face.rules, document, supply, folder / f"{face.name}.toml")
    arguments = ["--config-file", str(settings), "run", f"{server.url}{face.document}", "--seed", str(seed)]
    arguments += ["--header", f"Authorization: Bearer {server.key}"]
    arguments += ["--include-path-regex", face.paths, "--exclude-checks", ",".join((UNCHECKED, *face.unchecked))]
    arguments += ["--exclude-path", SLOW] if SLOW in document["paths"] else []
    alone = ["--phases", ",".join(effort.phases), "--max-examples", str(effort.examples)]
    linked = ["--phases", "stateful", "--max-time", str(effort.seconds)]
    ran = [
        run_schemathesis([*arguments, *more], folder / f"{face.name}-{name}")
        for name, more in (("requests", alone), ("links", linked))
    ]
    return {"face": face.name} | summarize(document, ran, face.paths)


class Ran(NamedTuple):
    exit: int
    output: str
    counted: dict[str, dict[str, Any]]


def run_schemathesis(arguments: Sequence[str], log_stem: Path) -> Ran:
    """Run Schemathesis and write its output to `log_stem` with the suffix `.log`."""
    counted, log = log_stem.with_suffix(".json"), log_stem.with_suffix(".log")
    counted.unlink(missing_ok=True)
    command = [
        str(Path(sys.executable).with_name("st")), *arguments, "--checks", "all",
        "--continue-on-failure", "--request-timeout", "60", "--generation-database", "none", "--no-color",
    ]  # fmt: skip
    environment = os.environ | {"SCHEMATHESIS_HOOKS": hooks.__file__, hooks.TALLY: str(counted)}
    with log.open("w", encoding="utf-8") as lines:
        exit = subprocess.run(
            command, cwd=log_stem.parent, env=environment, stdout=lines, stderr=subprocess.STDOUT
        ).returncode
    output = log.read_text(encoding="utf-8")
    assert counted.exists(), output
    return Ran(exit, output, json.loads(counted.read_text()))


def summarize(document: Mapping[str, Any], ran: Sequence[Ran], paths: str) -> dict[str, Any]:
    statuses, links, totals = defaultdict[str, Counter[str]](Counter), Counter[str](), Counter[str]()
    for each in ran:
        links.update(each.counted["links"])
        for name, found in each.counted["statuses"].items():
            statuses[name].update(found)
            totals.update(found)
    paths_asked = {path: ways for path, ways in document["paths"].items() if path != SLOW and re.search(paths, path)}
    names = [f"{method.upper()} {path}" for path, ways in paths_asked.items() for method in ways]
    known = [int(found[2]) for each in ran if (found := LINKS.search(each.output))]
    generated = [count for each in ran for count in COUNTED.findall(each.output)[-1:]]
    return {
        "exit": max(each.exit for each in ran),
        "cases": sum(int(count.replace(",", "")) for count in generated),
        "statuses": dict(sorted(totals.items())),
        "operations": len(names),
        "links": max(known, default=0),
        "links_followed": len(links),
        "transitions": links.total(),
        "succeeded": {name: share_of_successes(statuses[name]) for name in names},
    }


def share_of_successes(statuses: Mapping[str, int]) -> str:
    good = sum(count for status, count in statuses.items() if status.startswith("2"))
    return f"{good} of {sum(statuses.values())}"


def never_succeeded(face: Mapping[str, Any]) -> list[str]:
    failed = [name for name, share in face["succeeded"].items() if share.startswith("0 ") and name not in NEVER]
    return failed if face["face"] == PROJECTS_FACE.name else [name for name in failed if not OF_ADMINS.match(name)]


def check(faces: Sequence[Face], effort: Effort, seed: int, reports: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="tunewright-fuzz-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        stack = start_stack(
            Path(folder) / "data", TUNEWRIGHT_WEBHOOK_ALLOWLIST="127.0.0.1", TUNEWRIGHT_TRAINING_THREADS="1"
        )
        try:
            add = ["add", "tiny", "--path", str(build_tiny_model(Path(folder) / "tiny"))]
            subprocess.run([sys.executable, "-m", "app.models", *add], cwd=ROOT, env=stack.environment(), check=True)
            with Receiver().serving() as receiver:
                found = []
                for face in faces:
                    server = Server(stack.server["url"], find_key(stack, face))
                    with server.connect() as http:
                        supply = supply_face(http, face, receiver.url)
                    found.append(check_face(server, face, supply, reports, effort, seed))
                return found
        finally:
            stop_stack(stack)


def find_key(stack: Stack, face: Face) -> str:
    if face is not PROJECTS_FACE:
        return (stack.data / "api_key").read_text().strip()
    create = [sys.executable, "-m", "app.keys", "create", "--scope", "admin"]
    return subprocess.check_output(create, cwd=ROOT, env=stack.environment(), text=True).strip()


def supply_face(http: httpx2.Client, face: Face, receiver: str) -> Supply:
    if face is PROJECTS_FACE:
        return make_projects(http, NUM, NUM) | make_keys(http, NUM, 10 * NUM)
    cancel_all(http)
    return make_supply(http, receiver, NUM, NUM)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="maximum for each operation in each phase")
    parser.add_argument("--seconds", type=int, default=300, help="time for following links, on each face")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faces", nargs="+", default=[face.name for face in ALL], help="native, openai, projects")
    parser.add_argument(
        "--reports", type=Path, help="folder for Schemathesis' output; a new temporary folder by default"
    )
    parser.add_argument("--output", type=Path, help="a JSON file for the result")
    given = parser.parse_args()
    reports = given.reports or Path(tempfile.mkdtemp(prefix="tunewright-faces-"))
    chosen = [face for face in ALL if face.name in given.faces]
    faces = check(chosen, Effort(given.examples, given.seconds), given.seed, reports)
    result = {
        "machine": machine.describe(),
        "seed": given.seed,
        "cases": sum(face["cases"] for face in faces),
        "faces": faces,
    }
    print(json.dumps(result, indent=1))
    for face in faces:
        print(f"{face['face']}: exit {face['exit']}, see {reports}; never succeeded: {never_succeeded(face)}")
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(any(face["exit"] or never_succeeded(face) for face in faces))


if __name__ == "__main__":
    raise SystemExit(main())

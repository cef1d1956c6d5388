"""Checks that `app` and `worker` have a failpoint before and after every commit, storage write, rename and process
start.

A step without a failpoint cannot be killed at its worst moment, so its losses are found by users. A new transaction
needs a name (`transaction(sessions, "claim")`); anything else needs `around("claim")` of `app.failpoints`.
"""

import re
from pathlib import Path

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from app.main import create_app
from app.settings import Settings
from app.web.dependencies import get_session
from tests.fixtures.failpoints import (
    ROOT,
    Source,
    failpoints,
    find_namers,
    names,
    parse,
    request_steps,
    sources,
    unguarded,
    unnamed,
)

EXEMPT = {
    "app/local/launch.py": "runs without our imports; it is the second half of the supervisor's start_process",
}
BAD = {
    "a commit": "def f(session):\n    session.commit()",
    "a transaction": "def f(sessions):\n    with sessions.begin():\n        pass",
    "a commit with nothing after it": "def f(s):\n    with s.begin():\n        reach('before_x')\n    go_on()",
    "a put": "def f(store):\n    obstore.put(store, 'key', b'')",
    "a delete outside": "def f(store):\n    with around('x'):\n        pass\n    obstore.delete(store, 'key')",
    "a rename": "def f(path):\n    path.rename(other)",
    "a replacement": "def f(path):\n    os.replace(path, other)",
    "a start": "def f():\n    subprocess.run(['true'], check=True)",
    "another function's": "def g():\n    with around('x'):\n        def f(path):\n            path.rename(other)",
    "an opening before it": "def f():\n    with subprocess.Popen(['true']) as p, around('x'):\n        pass",
}
GOOD = {
    "around": "def f(path):\n    with around('x'):\n        path.rename(other)",
    "around, then open": "def f():\n    with around('x'), subprocess.Popen(['true']) as p:\n        pass",
    "reached": "def f(s):\n    with s.begin():\n        work()\n        reach('before_x')\n    reach('after_x')",
    "a savepoint, which commits nothing": "def f(session):\n    with session.begin_nested():\n        pass",
    "no path": "def f(text):\n    text.replace('a', 'b')",
    "a reading": "def f(store):\n    obstore.get(store, 'key')",
    "no transaction": "def f(child, request):\n    child.begin(request)",
}


@pytest.mark.parametrize("source", sources("app", "worker"), ids=lambda source: source.path)
def test_no_failpoint_is_missing(source: Source) -> None:
    assert not [*unnamed(source), *(unguarded(source) if source.path not in EXEMPT else [])]


@pytest.mark.parametrize("code", BAD.values(), ids=BAD)
def test_a_missing_failpoint_is_found(code: str) -> None:
    assert len([*unguarded(parse("app/x.py", code))]) == 1


@pytest.mark.parametrize("code", GOOD.values(), ids=GOOD)
def test_other_code_needs_no_failpoint(code: str) -> None:
    assert not [*unguarded(parse("app/x.py", code))]


def test_a_name_that_methods_pass_on_is_found_and_required() -> None:
    fence = "def run_once(self, change, step):\n    with transaction(self.sessions, step):\n        change()\n"
    write = "def write(self, change, step):\n    self.fence.run_once(change, step)\n"
    uses = parse("worker/y.py", f"{write}\ndef f(self, file):\n    self.write(g, 'plan')\n    file.write(g)")
    namers = find_namers([parse("worker/x.py", fence), uses])
    assert (namers["run_once"], namers["write"]) == (1, 1)
    assert list(names(uses, namers)) == ["before_plan", "after_plan"]
    assert not [*unnamed(parse("worker/x.py", fence))]
    lax = fence.replace("step):\n    with", "step='commit'):\n    with")
    for code in (lax, "def f(s):\n    with transaction(s):\n        pass", "def f(s, x):\n    reach(x.name)"):
        assert len([*unnamed(parse("worker/x.py", code))]) == 1


def test_a_route_that_commits_has_failpoints_named_after_its_function(tmp_path: Path) -> None:
    """Requests reach the failpoints that the source names. No two routes that change something share a name."""
    app = create_app(Settings(data_dir=tmp_path, cache_dir=tmp_path))
    routes = [route for found in iter_route_contexts(app.routes) if isinstance(route := found.route, APIRoute)]
    committing = [route for route in routes if commits(route.dependant)]
    assert {f"before_{route.endpoint.__name__}" for route in committing} <= failpoints().keys()
    changing = [route.endpoint.__name__ for route in committing if not route.methods <= {"GET", "HEAD"}]
    assert "post_job" in changing
    assert len(set(changing)) == len(changing)


def commits(dependant: Dependant) -> bool:
    return any(inner.call is get_session or commits(inner) for inner in dependant.dependencies)


def test_the_page_lists_every_failpoint() -> None:
    page = (ROOT / "docs/failpoints.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    steps = {name.removeprefix("before_").removeprefix("after_") for name in failpoints()}
    answering = {name for source in sources("app") for name, _ in request_steps(source)}
    assert listed == steps - answering

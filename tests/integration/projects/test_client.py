"""An administrator manages projects through the client and the command line, from another machine."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import Client, TunewrightError

ROOT = Path(__file__).parents[3]
Run = Callable[..., str]


@pytest.mark.usefixtures("dispatcher")
def test_the_client_manages_projects(live_server: str, admin_key: str, make_key: Callable[..., str]) -> None:
    with Client(live_server, admin_key) as client:
        made = client.create_project("research", max_running_jobs=2, idempotency_key="once")
        assert client.create_project("research", max_running_jobs=2, idempotency_key="once") == made
        assert (made.name, made.max_running_jobs, made.allowed_labels, made.being_deleted) == ("research", 2, {}, False)
        changed = client.change_project("research", allowed_labels={"pool": ["a"]})
        assert (changed.max_running_jobs, changed.allowed_labels) == (2, {"pool": ["a"]})
        assert client.get_project(made.id) == client.get_project("research") == changed
        assert [each.name for each in client.list_projects()] == ["research", "default"]
        assert client.delete_project("research").id == made.id
        erased = client.wait_for_project_deletion(made.id)
        assert (erased.name, erased.num_rows, erased.num_objects) == ("research", {}, 0)
        assert erased.finished_at is not None
        with pytest.raises(TunewrightError) as caught:
            client.get_project("research")
        assert (caught.value.status, caught.value.code) == (404, "project_not_found")
    with Client(live_server, make_key()) as client, pytest.raises(TunewrightError, match="--scope admin"):
        client.create_project("research")


def test_the_command_line_manages_projects(run: Run) -> None:
    assert "tunewright keys create --project research" in run("projects", "create", "research")
    assert run("projects", "set-limit", "research", "2") == "research: at most 2 running jobs\n"
    labelled = run("projects", "set-labels", "research", "pool=b,pool=a,zone=x")
    assert labelled == "research: at most 2 running jobs, on workers labelled pool=a or pool=b, zone=x\n"
    listed = run("projects", "list").split()
    assert {id_of(run, "research"), "research", "2", "pool=b,", "zone=x", "default", "limit"} <= set(listed)
    assert run("projects", "set-limit", "research", "none").startswith("research: no limit on running jobs, on")
    assert run("projects", "set-labels", "research", "none") == "research: no limit on running jobs\n"
    listed = json.loads(run("projects", "list", "--json"))
    assert [(each["name"], each["allowed_labels"]) for each in listed] == [("research", {}), ("default", {})]
    for arguments, message in (
        (("create", "research"), "A project named 'research' already exists"),
        (("set-limit", "defualt", "1"), "Did you mean 'default'?"),
        (("delete", "default", "--yes"), "belongs to project 'default'"),
    ):
        with pytest.raises(TunewrightError, match=message):
            run("projects", *arguments)


def id_of(run: Run, name: str) -> str:
    (id,) = [each["id"] for each in json.loads(run("projects", "list", "--json")) if each["name"] == name]
    return str(id)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set-limit", "default", "many"), "'many' is neither a number nor `none`"),
        (("set-labels", "default", "pool"), "'pool' is not a label; use the form pool=a,gpu=4090"),
    ],
)
def test_an_invalid_limit_or_label_is_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run("projects", *arguments)


def test_data_dir_takes_precedence_over_the_server(run: Run, tmp_path: Path) -> None:
    """The commands then use the database of that folder, and this folder has none."""
    for arguments in (
        ("create", "x"),
        ("list",),
        ("set-limit", "x", "1"),
        ("set-labels", "x", "none"),
        ("delete", "x"),
    ):
        with pytest.raises(TunewrightError, match=f"No server is running on {tmp_path}"):
            run("projects", *arguments, "--data-dir", str(tmp_path))


@pytest.mark.usefixtures("dispatcher")
def test_the_command_deletes_and_prints_what_was_erased(run: Run, make_key: Callable[..., str]) -> None:
    run("projects", "create", "doomed")
    make_key("doomed")
    with pytest.raises(TunewrightError, match="Pass --yes"):
        run("projects", "delete", "doomed")
    lines = run("projects", "delete", "doomed", "--yes").splitlines()
    (first,) = [line for line in lines if line.startswith("Erased project doomed (proj-")]
    receipt = lines[lines.index(first) :]
    assert [line.split() for line in receipt if line.startswith("  ")] == [["api_keys", "1"]]
    assert receipt[-1] == "Remaining: 0 rows, 0 stored objects, 0 work folders of online workers."
    with pytest.raises(TunewrightError, match="No project has the name 'doomed'"):
        run("projects", "delete", "doomed", "--yes")


def test_an_interactive_delete_asks_for_the_name(run: Run) -> None:
    run("projects", "create", "doomed")
    command = [sys.executable, "-m", "tunewright", "projects", "delete", "doomed", "--no-wait"]
    for typed, status, message in (("doomde", 1, "Nothing was deleted."), ("doomed", 0, ") is being deleted")):
        ours, theirs = pty.openpty()
        os.write(ours, f"{typed}\n".encode())
        done = subprocess.run(command, cwd=ROOT, stdin=theirs, capture_output=True, text=True, timeout=60, check=False)
        os.close(ours), os.close(theirs)
        assert (done.returncode, message in done.stdout + done.stderr) == (status, True), done
    listed = json.loads(run("projects", "list", "--json"))
    assert [(each["name"], each["being_deleted"]) for each in listed] == [("doomed", True), ("default", False)]

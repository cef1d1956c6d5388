import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from app.db.migrate import ensure_first_project
from app.db.session import Sessions, transaction
from app.db.tables import Project
from app.errors import BadRequest
from app.projects.__main__ import create, parse, set_labels, set_limit, show
from app.projects.errors import ProjectAlreadyExists, ProjectNotFound
from app.projects.service import ProjectService

ROOT = Path(__file__).parents[3]


def test_a_limit_is_set_shown_and_lifted(
    sessions: Sessions, project_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, limit, allowed in (("2", 2, "at most 2 running jobs"), ("none", None, "no limit on running jobs")):
        set_limit(sessions, parse(["set-limit", "default", word]))
        show(sessions, parse(["list"]))
        assert capsys.readouterr().out.splitlines() == [f"default: {allowed}"] * 2
        with transaction(sessions) as session:
            assert session.scalars(select(Project.max_running_jobs)).one() == limit


def test_labels_are_set_shown_and_lifted(
    sessions: Sessions, project_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for labels, allowed, output in (
        ("pool=b,pool=a,zone=x", {"pool": ["a", "b"], "zone": ["x"]}, ", on workers labelled pool=a or pool=b, zone=x"),
        ("none", {}, ""),
    ):
        set_labels(sessions, parse(["set-labels", "default", labels]))
        assert capsys.readouterr().out.strip() == f"default: no limit on running jobs{output}"
        with transaction(sessions) as session:
            assert session.scalars(select(Project.allowed_labels)).one() == allowed
    for arguments in (["set-labels", "nobody", "pool=a"], ["set-limit", "nobody", "2"]):
        with pytest.raises(ProjectNotFound, match="No project has the name 'nobody'"):
            (set_labels if "set-labels" in arguments else set_limit)(sessions, parse(arguments))


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["set-limit", "default", "-1"], "usage:"),
        (["set-limit", "default", "many"], "'many' is neither a number nor `none`"),
        (["set-labels", "default", "pool"], "'pool' is not a label; use the form pool=a,gpu=4090"),
    ],
)
def test_an_invalid_limit_or_label_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], output: str
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert output in capsys.readouterr().err


def test_a_project_is_created_once_by_the_create_command(
    sessions: Sessions, project_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    create(sessions, parse(["create", "research"]))
    assert "tunewright keys create --project research" in capsys.readouterr().out
    with pytest.raises(ProjectAlreadyExists, match="'research' already"):
        create(sessions, parse(["create", "research"]))
    for name in ("", "-x", "a b", "x" * 65, "ö"):
        with pytest.raises(BadRequest, match="is not a valid project name"), transaction(sessions) as session:
            ProjectService(session).create(name)
    with transaction(sessions) as session:
        assert [each.name for each in ProjectService(session).all()] == ["default", "research"]


def test_a_mistyped_project_name_creates_no_project(database_url: str, sessions: Sessions, project_id: str) -> None:
    """The command lists the existing projects instead and suggests the closest name."""
    command = [sys.executable, "-m", "app.keys", "create", "--project", "defualt"]
    environment = {"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    for text in (
        "No project has the name 'defualt'",
        "Did you mean 'default'?",
        "Existing projects: default.",
        "projects create",
    ):
        assert text in done.stderr
    with transaction(sessions) as session:
        assert session.scalars(select(Project.name)).all() == ["default"]


def test_a_new_database_has_one_project(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        ensure_first_project(session)
        assert session.scalars(select(Project.name)).all() == ["default"]
    with transaction(sessions) as session:
        session.execute(update(Project).values(name="renamed"))
        ensure_first_project(session)
        assert session.scalars(select(Project.name)).all() == ["renamed"], "only the first start creates a project"


def test_the_database_refuses_a_negative_limit(sessions: Sessions, project_id: str) -> None:
    with pytest.raises(IntegrityError, match="ck_projects_max_running_jobs"), transaction(sessions) as session:
        ProjectService(session).change("default", max_running_jobs=-1)

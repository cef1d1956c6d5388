import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.db.projects import limit_project
from app.db.session import Sessions, transaction
from app.db.tables import Project

ROOT = Path(__file__).parents[3]
Done = subprocess.CompletedProcess[str]


@pytest.fixture
def projects(database_url: str, project_id: str) -> Callable[..., Done]:
    environment = {"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"}
    return lambda *words: subprocess.run(
        [sys.executable, "-m", "app.projects", *words], env=environment, cwd=ROOT, capture_output=True, text=True
    )


def test_a_limit_is_set_shown_and_lifted(sessions: Sessions, projects: Callable[..., Done]) -> None:
    for word, limit, allowed in (("2", 2, "at most 2 of its jobs"), ("none", None, "any number of jobs")):
        said = f"default: {allowed} at once"
        done = projects("limit", "default", word)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said, "")
        assert projects("list").stdout.strip() == said
        with transaction(sessions) as session:
            assert session.scalars(select(Project.max_running_jobs)).one() == limit


def test_labels_are_set_shown_and_lifted(sessions: Sessions, projects: Callable[..., Done]) -> None:
    for words, allowed, said in (
        ("pool=b,pool=a,zone=x", {"pool": ["a", "b"], "zone": ["x"]}, ", on workers labelled pool=a or pool=b, zone=x"),
        ("none", {}, ""),
    ):
        done = projects("set-labels", "default", words)
        assert (done.returncode, done.stdout.strip()) == (0, f"default: any number of jobs at once{said}")
        with transaction(sessions) as session:
            assert session.scalars(select(Project.allowed_labels)).one() == allowed


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["limit", "nobody", "2"], 1, "There is no project 'nobody'"),
        (["limit", "default", "-1"], 2, "usage:"),
        (["set-labels", "nobody", "pool=a"], 1, "There is no project 'nobody'"),
        (["set-labels", "default", "pool"], 2, "'pool' is not a label; write pool=a,gpu=4090"),
        (["limit", "default", "many"], 2, "'many' is neither a number nor `none`"),
    ],
)
def test_what_is_no_project_or_no_limit_is_refused(
    projects: Callable[..., Done], words: list[str], status: int, said: str
) -> None:
    done = projects(*words)
    assert done.returncode == status
    assert said in done.stderr


def test_the_database_refuses_a_limit_below_nothing(sessions: Sessions, project_id: str) -> None:
    with pytest.raises(IntegrityError, match="ck_projects_max_running_jobs"), transaction(sessions) as session:
        limit_project(session, "default", -1)

"""`python -m app.projects limit NAME N | set-labels NAME LABELS | list`: what each project may use."""

import argparse
import sys
from typing import NoReturn

from app.db.projects import all_projects, allow_labels, get_project, limit_project
from app.db.session import Sessions, connect, open_sessions, transaction
from app.db.tables import Project
from app.labels import read_allowed_labels, show_allowed_labels
from app.settings import get_settings


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunewright projects")
    commands = parser.add_subparsers(dest="command", required=True)
    limit = commands.add_parser("limit", help="how many of its jobs may run at once; what runs already goes on")
    limit.add_argument("name")
    limit.add_argument("jobs", type=read_limit, metavar="N", help="0 or more; `none` for no limit")
    labels = commands.add_parser("set-labels", help="on which workers its jobs may run; what runs already goes on")
    labels.add_argument("name")
    labels.add_argument("labels", type=read_allowed, metavar="LABELS", help="pool=a,pool=b; `none` for every worker")
    commands.add_parser("list", help="show the projects, their limits and their labels")
    return parser.parse_args(arguments)


def read_limit(word: str) -> int | None:
    if word == "none":
        return None
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor `none`")
    return int(word)


def read_allowed(text: str) -> dict[str, list[str]]:
    try:
        return {} if text == "none" else read_allowed_labels(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def limit(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "limit_project") as session:
        if not limit_project(session, given.name, given.jobs):
            refuse(given.name)
        return describe(get_project(session, given.name))


def set_labels(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "allow_labels") as session:
        if not allow_labels(session, given.name, given.labels):
            refuse(given.name)
        return describe(get_project(session, given.name))


def refuse(name: str) -> NoReturn:
    sys.exit(f"There is no project {name!r}; its first key makes it.")


def show(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "show_projects") as session:
        return "\n".join(map(describe, all_projects(session)))


def describe(project: Project) -> str:
    most = project.max_running_jobs
    jobs = "any number of jobs" if most is None else f"at most {most:,} of its jobs"
    labels = show_allowed_labels(project.allowed_labels)
    return f"{project.name}: {jobs} at once" + (f", on workers labelled {labels}" if labels else "")


def main() -> None:
    given = parse()
    command = {"limit": limit, "set-labels": set_labels, "list": show}[given.command]
    print(command(open_sessions(connect(get_settings().database_url, pool_size=1)), given))


if __name__ == "__main__":
    main()

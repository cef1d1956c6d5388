"""`python -m app.projects limit NAME N | list`: what each project may use."""

import argparse
import sys

from app.db.projects import all_projects, limit_project
from app.db.session import Sessions, connect, open_sessions, transaction
from app.settings import get_settings


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunewright projects")
    commands = parser.add_subparsers(dest="command", required=True)
    limit = commands.add_parser("limit", help="how many of its jobs may run at once; what runs already goes on")
    limit.add_argument("name")
    limit.add_argument("jobs", type=read_limit, metavar="N", help="0 or more; `none` for no limit")
    commands.add_parser("list", help="show the projects and their limits")
    return parser.parse_args(arguments)


def read_limit(word: str) -> int | None:
    if word == "none":
        return None
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor `none`")
    return int(word)


def limit(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "limit_project") as session:
        if not limit_project(session, given.name, given.jobs):
            sys.exit(f"There is no project {given.name!r}; its first key makes it.")
    return describe(given.name, given.jobs)


def show(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "show_projects") as session:
        return "\n".join(describe(project.name, project.max_running_jobs) for project in all_projects(session))


def describe(name: str, max_running_jobs: int | None) -> str:
    allowed = "any number of jobs" if max_running_jobs is None else f"at most {max_running_jobs:,} of its jobs"
    return f"{name}: {allowed} at once"


def main() -> None:
    given = parse()
    command = {"limit": limit, "list": show}[given.command]
    print(command(open_sessions(connect(get_settings().database_url, pool_size=1)), given))


if __name__ == "__main__":
    main()

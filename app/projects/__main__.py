"""Manages a server's projects: `python -m app.projects create | list | set-limit | set-labels | delete`."""

import argparse
import json
import sys
import time

from app.db.project_tables import ProjectDeletion
from app.db.session import Sessions, connect, open_sessions, transaction
from app.db.tables import Project
from app.domain.project import DeletionState
from app.errors import TunewrightError
from app.labels import read_allowed_labels, show_allowed_labels
from app.projects.schemas import ProjectOut
from app.projects.service import ProjectService
from app.settings import get_settings

ASK_SECONDS = 0.5
STEPS = {
    DeletionState.stopping: "Revoked its keys. Waiting until no worker holds any of its work …",
    DeletionState.erasing: "Erasing its rows and stored files …",
    DeletionState.clearing_workers: "Erased its rows and files. Waiting for the workers to clear their disks …",
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunewright projects")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="create a project")
    limit = commands.add_parser("set-limit", help="limit how many of its jobs run at once; running jobs continue")
    remove = commands.add_parser("delete", help="erase a project and everything that belongs to it")
    labels = commands.add_parser("set-labels", help="limit the workers that run its jobs; running jobs continue")
    for command in (create, limit, labels, remove):
        command.add_argument("name")
    limit.add_argument("jobs", type=read_limit, metavar="N", help="0 or more; `none` for no limit")
    labels.add_argument("labels", type=read_allowed, metavar="LABELS", help="pool=a,pool=b; `none` for every worker")
    remove.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    remove.add_argument("--no-wait", action="store_true", help="return at once; the server continues the deletion")
    listing = commands.add_parser("list", help="list the projects with their limits and labels")
    listing.add_argument("--json", action="store_true", help="print JSON, as the API returns it")
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


def create(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "create_project") as session:
        ProjectService(session).create(given.name)
    print(f"Created {given.name}. Create its first key: tunewright keys create --project {given.name}")


def set_limit(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "limit_project") as session:
        project = ProjectService(session).change(given.name, max_running_jobs=given.jobs)
        print(describe(project))


def set_labels(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "allow_labels") as session:
        print(describe(ProjectService(session).change(given.name, allowed_labels=given.labels)))


def show(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "show_projects") as session:
        projects = ProjectService(session).all()
        going = ProjectService(session).being_deleted(projects)
    if given.json:
        shown = [ProjectOut.of(project, project.id in going).model_dump(mode="json") for project in projects]
        return print(json.dumps(shown, indent=2))
    for project in projects:
        print(describe(project) + (" (being deleted)" if project.id in going else ""))


def describe(project: Project) -> str:
    most = project.max_running_jobs
    jobs = "no limit on running jobs" if most is None else f"at most {most:,} running jobs"
    labels = show_allowed_labels(project.allowed_labels)
    return f"{project.name}: {jobs}" + (f", on workers labelled {labels}" if labels else "")


def delete(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "find_project") as session:
        ProjectService(session).get_for_deletion(given.name)
    if not given.yes:
        confirm(given.name)
    with transaction(sessions, "request_project_deletion") as session:
        deletion = ProjectService(session).request_deletion(given.name)
    if given.no_wait:
        print(
            f"Project {given.name} ({deletion.id}) is being deleted; "
            "run `tunewright projects delete` again to see the progress."
        )
    else:
        wait(sessions, deletion.id)


def confirm(name: str) -> None:
    if not sys.stdin.isatty():
        sys.exit("tunewright: deleting a project cannot be undone; pass --yes when there is no terminal.")
    print(f"This erases project {name!r}: its keys, datasets, jobs, checkpoints and adapters. It cannot be undone.")
    if input("Type the project's name to continue: ") != name:
        sys.exit("Nothing was deleted.")


def wait(sessions: Sessions, id: str) -> None:
    printed = None
    while True:
        with transaction(sessions, "follow_deletion") as session:
            deletion = ProjectService(session).find_deletion(id)
        assert deletion is not None
        if deletion.state == DeletionState.finished:
            return print(format_receipt(deletion))
        if deletion.state != printed:
            printed = deletion.state
            print(STEPS[DeletionState(printed)], file=sys.stderr, flush=True)
        time.sleep(ASK_SECONDS)


def format_receipt(deletion: ProjectDeletion) -> str:
    """Return the list of what was erased."""
    rows = "".join(f"\n  {table:<24}{count:>12,}" for table, count in sorted(deletion.num_rows.items()))
    folders = "".join(f"\n  {worker:<24}{count:>12,}" for worker, count in sorted(deletion.work_folders.items()))
    return (
        f"Erased project {deletion.name} ({deletion.id}).\n"
        f"Rows by table:{rows or ' none'}\n"
        f"Stored objects: {deletion.num_objects:,} ({deletion.num_bytes:,} bytes)\n"
        f"Streams of live metrics: {deletion.num_live_streams:,}\n"
        f"Work folders by worker:{folders or ' none'}\n"
        "Remaining: 0 rows, 0 stored objects, 0 work folders of online workers."
    )


def main() -> None:
    given = parse()
    verbs = {"create": create, "list": show, "set-limit": set_limit, "set-labels": set_labels, "delete": delete}
    command = verbs[given.command]
    try:
        command(open_sessions(connect(get_settings().database_url, pool_size=1)), given)
    except TunewrightError as error:
        sys.exit(f"tunewright: {error}")
    except KeyboardInterrupt:
        sys.exit("tunewright: the deletion continues; run the same command again to see the progress.")


if __name__ == "__main__":
    main()

"""Defines `tunewright projects`."""

import sys
from typing import Annotated

import typer

from tunewright import Client, Project, ProjectDeletion, TunewrightError, local
from tunewright.commands.options import AsJson, DataDir, Yes
from tunewright.commands.server import exec_program, to_flags
from tunewright.display import console, notes, print_json, print_table, sanitize_text
from tunewright.transport import poll

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Manage projects and their limits.\n\n"
        "These commands work on the server's machine. To use them from another machine, set TUNEWRIGHT_URL, and "
        "TUNEWRIGHT_API_KEY to a key with the scope admin (`tunewright keys create --scope admin`)."
    ),
)
Name = Annotated[str, typer.Argument(help="The project's name.")]
STEP_NOTES = {
    "stopping": "Revoked its keys. Waiting until no worker holds any of its work …",
    "erasing": "Erasing its rows and stored files …",
    "clearing_workers": "Erased its rows and files. Waiting for the workers to clear their disks …",
}


@app.command()
def create(name: Name, data_dir: DataDir = None) -> None:
    """Create a project. A new server has the project `default`."""
    if local.uses_database(data_dir):
        exec_program("app.projects", "create", name, **local.server_environment(data_dir))
    with Client() as client:
        client.create_project(name)
    console.print(f"Created {name}. Create its first key: tunewright keys create --project {name}", soft_wrap=True)


@app.command("list")
def list_projects(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List projects with their limits and labels, newest first."""
    if local.uses_database(data_dir):
        exec_program("app.projects", "list", *to_flags(json=as_json), **local.server_environment(data_dir))
    with Client() as client:
        projects = list(client.list_projects())
    if as_json:
        return print_json([project.raw for project in projects])
    columns = {
        "id": lambda p: p.id,
        "name": lambda p: p.name,
        "max running jobs": lambda p: "no limit" if p.max_running_jobs is None else f"{p.max_running_jobs:,}",
        "worker labels": format_labels,
        "state": lambda p: "being deleted" if p.being_deleted else "active",
    }
    print_table(projects, columns)


@app.command()
def set_limit(
    name: Name,
    jobs: Annotated[str, typer.Argument(metavar="N", help="0 or more, or `none` for no limit.")],
    data_dir: DataDir = None,
) -> None:
    """Limit how many jobs of a project run at the same time. Running jobs continue."""
    if local.uses_database(data_dir):
        exec_program("app.projects", "set-limit", name, jobs, **local.server_environment(data_dir))
    if not jobs.isdecimal() and jobs != "none":
        raise typer.BadParameter(f"{jobs!r} is neither a number nor `none`")
    with Client() as client:
        show_limits(client.change_project(name, max_running_jobs=None if jobs == "none" else int(jobs)))


@app.command()
def set_labels(
    name: Name,
    labels: Annotated[str, typer.Argument(metavar="LABELS", help="Such as pool=a,pool=b, or `none` for every worker.")],
    data_dir: DataDir = None,
) -> None:
    """Limit a project's jobs to workers with labels. A worker needs one of the given values for each key."""
    if local.uses_database(data_dir):
        exec_program("app.projects", "set-labels", name, labels, **local.server_environment(data_dir))
    allowed = {} if labels == "none" else read_labels(labels)
    with Client() as client:
        show_limits(client.change_project(name, allowed_labels=allowed))


def read_labels(text: str) -> dict[str, list[str]]:
    allowed: dict[str, list[str]] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        key, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"{word!r} is not a label; use the form pool=a,gpu=4090")
        allowed.setdefault(key, []).append(value)
    return allowed


def show_limits(project: Project) -> None:
    most, labels = project.max_running_jobs, format_labels(project)
    jobs = "no limit on running jobs" if most is None else f"at most {most:,} running jobs"
    limits = f"{project.name}: {jobs}" + (f", on workers labelled {labels}" if labels else "")
    console.print(sanitize_text(limits), soft_wrap=True)


def format_labels(project: Project) -> str:
    """Format labels as `pool=a or pool=b, zone=x`."""
    allowed = sorted(project.allowed_labels.items())
    return ", ".join(" or ".join(f"{key}={value}" for value in values) for key, values in allowed)


@app.command()
def delete(
    name: Name,
    yes: Yes = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait; the deletion continues on the server.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Erase a project and everything that belongs to it. Asks for confirmation.

    Erases its keys, rows, stored files, caches and work folders, and prints what was erased."""
    if local.uses_database(data_dir):
        options = to_flags(yes=yes, no_wait=no_wait)
        exec_program("app.projects", "delete", name, *options, **local.server_environment(data_dir))
    with Client() as client:
        project = client.get_project(name)
        if not yes:
            confirm(project)
        deletion = client.delete_project(project.id)
        if no_wait:
            again = "run `tunewright projects delete` again to see the progress."
            return console.print(f"Project {project.name} ({project.id}) is being deleted; {again}", soft_wrap=True)
        show_receipt(wait(client, deletion))


def confirm(project: Project) -> None:
    if not sys.stdin.isatty():
        detail = "Deleting a project cannot be undone. Pass --yes when there is no terminal."
        raise TunewrightError(None, "not_confirmed", detail)
    console.print(
        f"This erases project {project.name}: its keys, datasets, jobs, checkpoints and adapters.", soft_wrap=True
    )
    if typer.prompt("This cannot be undone. Type the project's name to continue") != project.name:
        raise TunewrightError(None, "not_confirmed", "Nothing was deleted.")


def wait(client: Client, deletion: ProjectDeletion) -> ProjectDeletion:
    """Wait until the deletion is finished, and print each step as it starts."""
    shown: set[str] = set()

    def ask() -> ProjectDeletion:
        found = client.get_project_deletion(deletion.id)
        if found.state in STEP_NOTES.keys() - shown:
            shown.add(found.state)
            notes.print(STEP_NOTES[found.state])
        return found

    return poll(ask, lambda found: found.state == "finished")


def show_receipt(deletion: ProjectDeletion) -> None:
    """Print what was erased, as a list."""
    rows = "".join(f"\n  {table:<24}{count:>12,}" for table, count in sorted(deletion.num_rows.items()))
    folders = "".join(f"\n  {worker:<24}{count:>12,}" for worker, count in sorted(deletion.work_folders.items()))
    receipt = (
        f"Erased project {deletion.name} ({deletion.id}).\n"
        f"Rows by table:{rows or ' none'}\n"
        f"Stored objects: {deletion.num_objects:,} ({deletion.num_bytes:,} bytes)\n"
        f"Streams of live metrics: {deletion.num_live_streams:,}\n"
        f"Work folders by worker:{folders or ' none'}\n"
        "Remaining: 0 rows, 0 stored objects, 0 work folders of online workers."
    )
    console.print(sanitize_text(receipt), soft_wrap=True)

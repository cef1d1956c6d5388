"""Defines `tunewright projects`."""

import sys
from typing import Annotated

import typer

from tunewright import Client, Project, ProjectDeletion, TunewrightError, local
from tunewright.commands.options import AsJson, DataDir, Yes
from tunewright.commands.server import become, flags
from tunewright.display import clean, console, notes, print_json, print_table
from tunewright.transport import poll

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Projects and their limits.\n\n"
        "All of it works on the server's machine, and from anywhere with TUNEWRIGHT_URL and the key of an "
        "administrator (`tunewright keys create --scope admin`)."
    ),
)
Name = Annotated[str, typer.Argument(help="The project's name.")]
STEPS = {
    "stopping": "Its keys are revoked. Waiting until no worker holds any of its work …",
    "erasing": "Erasing its rows and stored files …",
    "clearing_workers": "Its rows and files are gone. Waiting for the workers to clear their disks …",
}


@app.command()
def create(name: Name, data_dir: DataDir = None) -> None:
    """Create a project. A new server has one, `default`."""
    if local.acts_on_database(data_dir):
        become("app.projects", "create", name, **local.server_environment(data_dir))
    with Client() as client:
        client.create_project(name)
    console.print(f"Created {name}. Its first key: tunewright keys create --project {name}", soft_wrap=True)


@app.command("list")
def list_projects(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List projects, with their limits and labels."""
    if local.acts_on_database(data_dir):
        become("app.projects", "list", *flags(json=as_json), **local.server_environment(data_dir))
    with Client() as client:
        projects = list(client.list_projects())
    if as_json:
        return print_json([project.raw for project in projects])
    columns = {
        "id": lambda p: p.id,
        "name": lambda p: p.name,
        "jobs at once": lambda p: "any number" if p.max_running_jobs is None else f"{p.max_running_jobs:,}",
        "on workers labelled": show_labels,
        "is": lambda p: "being deleted" if p.being_deleted else "",
    }
    print_table(projects, columns)


@app.command()
def set_limit(
    name: Name,
    jobs: Annotated[str, typer.Argument(metavar="N", help="0 or more; `none` for no limit.")],
    data_dir: DataDir = None,
) -> None:
    """Set how many jobs of a project may run at once. Running jobs continue."""
    if local.acts_on_database(data_dir):
        become("app.projects", "set-limit", name, jobs, **local.server_environment(data_dir))
    if not jobs.isdecimal() and jobs != "none":
        raise typer.BadParameter(f"{jobs!r} is neither a number nor `none`")
    with Client() as client:
        describe(client.change_project(name, max_running_jobs=None if jobs == "none" else int(jobs)))


@app.command()
def set_labels(
    name: Name,
    labels: Annotated[str, typer.Argument(metavar="LABELS", help="pool=a,pool=b; `none` for every worker.")],
    data_dir: DataDir = None,
) -> None:
    """Set which workers may run a project's jobs: those with one of the given values for each key."""
    if local.acts_on_database(data_dir):
        become("app.projects", "set-labels", name, labels, **local.server_environment(data_dir))
    allowed = {} if labels == "none" else read_labels(labels)
    with Client() as client:
        describe(client.change_project(name, allowed_labels=allowed))


def read_labels(text: str) -> dict[str, list[str]]:
    allowed: dict[str, list[str]] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        key, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"{word!r} is not a label; write pool=a,gpu=4090")
        allowed.setdefault(key, []).append(value)
    return allowed


def describe(project: Project) -> None:
    most, labels = project.max_running_jobs, show_labels(project)
    jobs = "any number of jobs" if most is None else f"at most {most:,} of its jobs"
    said = f"{project.name}: {jobs} at once" + (f", on workers labelled {labels}" if labels else "")
    console.print(clean(said), soft_wrap=True)


def show_labels(project: Project) -> str:
    """Format labels as `pool=a or pool=b, zone=x`."""
    allowed = sorted(project.allowed_labels.items())
    return ", ".join(" or ".join(f"{key}={value}" for value in values) for key, values in allowed)


@app.command()
def delete(
    name: Name,
    yes: Yes = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once; the server goes on.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Erase a project: its keys, rows, stored files, caches and work folders. Prints a list of what was erased."""
    if local.acts_on_database(data_dir):
        options = flags(yes=yes, no_wait=no_wait)
        become("app.projects", "delete", name, *options, **local.server_environment(data_dir))
    with Client() as client:
        project = client.get_project(name)
        if not yes:
            confirm(project)
        deletion = client.delete_project(project.id)
        if no_wait:
            again = "`tunewright projects delete` again shows how far."
            said = f"Project {project.name} ({project.id}) is being deleted: {again}"
            return console.print(said, soft_wrap=True)
        show_receipt(wait(client, deletion))


def confirm(project: Project) -> None:
    if not sys.stdin.isatty():
        said = "Deleting a project cannot be undone; say --yes where nobody can be asked."
        raise TunewrightError(None, "not_confirmed", said)
    console.print(
        f"This erases project {project.name}: its keys, datasets, jobs, checkpoints and adapters.", soft_wrap=True
    )
    if typer.prompt("It cannot be undone. Type the project's name to go on") != project.name:
        raise TunewrightError(None, "not_confirmed", "Nothing was deleted.")


def wait(client: Client, deletion: ProjectDeletion) -> ProjectDeletion:
    """Wait until the deletion is finished, and print each step as it starts."""
    told: set[str] = set()

    def ask() -> ProjectDeletion:
        found = client.get_project_deletion(deletion.id)
        if found.state in STEPS.keys() - told:
            told.add(found.state)
            notes.print(STEPS[found.state])
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
        "Left of it: 0 rows, 0 stored objects, 0 work folders of the workers online."
    )
    console.print(clean(receipt), soft_wrap=True)

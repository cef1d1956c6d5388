"""Defines `tunewright models`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from tunewright import Client, Model, ModelSummary, TunewrightError, local
from tunewright.commands.options import AsJson, DataDir
from tunewright.commands.server import exec_program, to_flags
from tunewright.display import console, format_size, notes, print_facts, print_json, print_table
from tunewright.transport import poll

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Manage the base models in the model registry.\n\n"
        "`add` and `remove` work on the server's machine. To use them from another machine, set TUNEWRIGHT_URL, and "
        "TUNEWRIGHT_API_KEY to a key with the scope admin (`tunewright keys create --scope admin`)."
    ),
)
Name = Annotated[str, typer.Argument(help="Name of the model in the registry.")]
Projects = Annotated[str | None, typer.Option(metavar="A,B", help="Projects that may use the model [all].")]


@app.command()
def add(
    name: Name,
    path: Annotated[Path | None, typer.Option(help="Folder with the config, safetensors and tokenizer files.")] = None,
    hub: Annotated[str | None, typer.Option(help="Id on the model hub, ORG/NAME.")] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit on the hub; pinned to the commit [main].")
    ] = None,
    hub_name: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME", help="Hub id of the model in the folder, at the commit --revision; not verified."
        ),
    ] = None,
    projects: Projects = None,
    data_dir: DataDir = None,
) -> None:
    """Add a base model from a folder or from the hub.

    The model is copied into the server's storage. The command waits until it is ready."""
    if (path is None) == (hub is None):
        raise typer.BadParameter("Give exactly one of --path and --hub.")
    if local.uses_database(data_dir):
        where = to_flags(
            path=path and path.absolute(), hub=hub, revision=revision, hub_name=hub_name, projects=projects
        )
        exec_program("app.models", "add", name, *where, **local.server_environment(data_dir))
    with Client() as client:
        fields: dict[str, Any] = {"path": path and str(path), "hub": hub, "revision": revision}
        fields |= {"hub_name": hub_name}
        fields["projects"] = projects and projects.split(",")
        client.create_model(name, **{field: value for field, value in fields.items() if value is not None})
        model = wait(client, name)
    if model.failure is not None:
        raise TunewrightError(None, model.failure["code"], model.failure["message"])
    notes.print(f"{model.name} is ready: {model.num_parameters:,} parameters, revision {(model.revision or '')[:12]}.")


def wait(client: Client, name: str) -> Model:
    """Wait until the model is fetched, with a progress bar on a terminal."""
    columns = TextColumn("Fetching the model"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[state]}")
    with Progress(*columns, console=notes, disable=not notes.is_terminal, transient=True) as progress:
        bar = progress.add_task("", total=None, state="")

        def ask() -> Model:
            model = client.get_model(name)
            progress.update(bar, completed=model.num_bytes_done, total=model.num_bytes, state=model.state)
            return model

        return poll(ask, lambda model: model.state in ("ready", "failed"))


@app.command()
def remove(name: Name, data_dir: DataDir = None) -> None:
    """Remove a base model from the model registry and from storage. Its source folder is not changed."""
    if local.uses_database(data_dir):
        exec_program("app.models", "remove", name, **local.server_environment(data_dir))
    with Client() as client:
        client.delete_model(name)


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show one base model and its license."""
    with Client() as client:
        model = client.get_model(name)
    if as_json:
        return print_json(model.raw)
    print_facts(
        {
            "name": model.name,
            "state": format_state(model),
            "hub": model.hub,
            "revision": model.revision,
            "hub name (not verified)": model.hub_name
            and f"{model.hub_name} at {model.hub_revision or 'an unknown commit'}",
            "architecture": model.architecture,
            "parameters": f"{model.num_parameters:,}" if model.num_parameters else None,
            "max tokens": f"{model.max_seq_len:,}" if model.max_seq_len else None,
            "size": format_size(model.num_bytes) if model.num_bytes else None,
            "projects": "all" if model.projects is None else ", ".join(model.projects),
            "license": model.license or "not stated by the model",
        }
    )
    if model.license_text:
        console.print("\n" + model.license_text)


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the base models in the model registry, newest first."""
    with Client() as client:
        models = list(client.models())
    if as_json:
        return print_json([model.raw for model in models])
    columns = {
        "name": lambda m: m.name,
        "state": format_state,
        "architecture": lambda m: m.architecture or "",
        "parameters": lambda m: f"{m.num_parameters:,}" if m.num_parameters else "",
        "max tokens": lambda m: f"{m.max_seq_len:,}" if m.max_seq_len else "",
        "revision": lambda m: (m.revision or "")[:12],
        "license": lambda m: m.license or "",
    }
    print_table(models, columns)


def format_state(model: ModelSummary) -> str:
    """Format the state of the model, with its progress or its failure."""
    if model.failure is not None:
        return f"failed: {model.failure['message']}"
    if model.state == "fetching" and model.num_bytes:
        return f"fetching, {format_size(model.num_bytes_done)} of {format_size(model.num_bytes)}"
    return model.state

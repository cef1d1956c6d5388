"""`tunewright models`"""

from pathlib import Path
from typing import Annotated

import typer

from tunewright import Client, local
from tunewright.commands.options import AsJson, DataDir
from tunewright.commands.server import become, flags
from tunewright.display import print_json, print_table

app = typer.Typer(no_args_is_help=True, help="The registry of base models.")
Name = Annotated[str, typer.Argument(help="Name that jobs call it by.")]
Projects = Annotated[
    str | None, typer.Option(metavar="A,B", help="Projects that may use it; all of them unless given.")
]


@app.command()
def add(
    name: Name,
    path: Annotated[Path | None, typer.Option(help="Folder of config, safetensors and tokenizer.")] = None,
    hub: Annotated[str | None, typer.Option(help="Its id on the model hub.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit on the hub: 40 hex digits, which pin it.")] = None,
    projects: Projects = None,
    data_dir: DataDir = None,
) -> None:
    """Register a base model, from a folder or from the hub (on the server's machine)."""
    if (path is None) == (hub is None):
        raise typer.BadParameter("give exactly one of --path and --hub")
    where = flags(path=path and path.absolute(), hub=hub, revision=revision, projects=projects)
    become("app.models", "add", name, *where, **local.server_environment(data_dir))


@app.command()
def remove(name: Name, data_dir: DataDir = None) -> None:
    """Take a base model out of the registry; its files stay (on the server's machine)."""
    become("app.models", "remove", name, **local.server_environment(data_dir))


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the base models that jobs can be trained on."""
    with Client() as client:
        models = list(client.models())
    if as_json:
        return print_json([model.raw for model in models])
    columns = {
        "name": lambda m: m.name,
        "architecture": lambda m: m.architecture,
        "parameters": lambda m: f"{m.num_parameters:,}",
        "most tokens": lambda m: f"{m.max_seq_len:,}",
        "revision": lambda m: (m.revision or "")[:12],
    }
    print_table(models, columns)

"""`python -m app.models add | list | remove`: the catalogue of base models."""

import argparse
import sys
from pathlib import Path

from app.db.projects import find_or_create_project
from app.db.session import Sessions, connect, open_sessions, transaction
from app.db.tables import BaseModel
from app.errors import TunewrightError
from app.models import hub
from app.models.folder import digest_folder, read_folder
from app.models.service import ModelService
from app.settings import get_settings


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunewright models")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="catalogue a model, so that jobs can name it")
    add.add_argument("name")
    place = add.add_mutually_exclusive_group(required=True)
    place.add_argument("--path", type=Path, help="folder with config.json, safetensors and tokenizer")
    place.add_argument("--hub", metavar="ORG/NAME", help="model of a hub; needs --revision")
    add.add_argument("--revision", default="", help="commit of the hub model (40 hex digits)")
    remove = commands.add_parser("remove", help="take a model out of the catalogue; its files stay")
    remove.add_argument("name")
    for command in (add, remove, commands.add_parser("list", help="show the catalogue")):
        command.add_argument("--project", default="default")
    return parser.parse_args(arguments)


def add(sessions: Sessions, given: argparse.Namespace) -> str:
    folder = given.path.absolute() if given.path else hub.fetch(given.hub, given.revision, get_settings().cache_dir)
    facts = read_folder(folder)
    source, revision = (str(folder), digest_folder(folder)) if given.path else (given.hub, given.revision)
    with transaction(sessions, "add_model") as session:
        project_id = find_or_create_project(session, given.project)
        return describe(ModelService(session).add(project_id, given.name, source, revision, facts))


def remove(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "remove_model") as session:
        ModelService(session).remove(find_or_create_project(session, given.project), given.name)
    return f"{given.name} is out of the catalogue; its files are where they were."


def show(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "show_catalogue") as session:
        models = ModelService(session).all(find_or_create_project(session, given.project))
    return "\n".join(describe(model) for model in models) or "The catalogue is empty; `tunewright models add` fills it."


def describe(model: BaseModel) -> str:
    return (
        f"{model.name}: {model.architecture}, {model.num_parameters:,} parameters, up to {model.max_seq_len:,} tokens, "
        f"{len(model.linear_modules)} linear layers, revision {(model.revision or 'none')[:12]}, {model.source}"
    )


def main() -> None:
    given = parse()
    command = {"add": add, "remove": remove, "list": show}[given.command]
    try:
        print(command(open_sessions(connect(get_settings().database_url, pool_size=1)), given))
    except TunewrightError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

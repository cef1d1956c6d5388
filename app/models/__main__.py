"""`python -m app.models add | list | remove`: the registry of base models."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

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
    add = commands.add_parser("add", help="register a model, so that jobs can name it")
    add.add_argument("name")
    place = add.add_mutually_exclusive_group(required=True)
    place.add_argument("--path", type=Path, help="folder with config.json, safetensors and tokenizer")
    place.add_argument("--hub", metavar="ORG/NAME", help="model of a hub; needs --revision")
    add.add_argument("--revision", default="", help="commit of the hub model (40 hex digits)")
    add.add_argument("--projects", type=read_names, default=[], metavar="A,B", help="who may use it; all unless given")
    remove = commands.add_parser("remove", help="take a model out of the registry; its files stay")
    remove.add_argument("name")
    commands.add_parser("list", help="show the registry")
    return parser.parse_args(arguments)


def read_names(words: str) -> list[str]:
    return [name for name in words.split(",") if name]


def add(sessions: Sessions, given: argparse.Namespace) -> str:
    folder = given.path.absolute() if given.path else hub.fetch(given.hub, given.revision, get_settings().cache_dir)
    facts = read_folder(folder)
    source, revision = (str(folder), digest_folder(folder)) if given.path else (given.hub, given.revision)
    with transaction(sessions, "add_model") as session:
        models = ModelService(session)
        model = models.add(given.name, source, revision, facts, given.projects)
        return describe(model, models.allowed([model]).get(model.id, []))


def remove(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "remove_model") as session:
        ModelService(session).remove(given.name)
    return f"{given.name} is out of the registry; its files are where they were."


def show(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "show_registry") as session:
        models = ModelService(session).all()
        allowed = ModelService(session).allowed(models)
    told = "\n".join(describe(model, allowed.get(model.id, [])) for model in models)
    return told or "The registry is empty; `tunewright models add` fills it."


def describe(model: BaseModel, projects: Sequence[str]) -> str:
    users = "" if model.for_all_projects else f", for {', '.join(projects) or 'no project'}"
    return (
        f"{model.name}: {model.architecture}, {model.num_parameters:,} parameters, up to {model.max_seq_len:,} tokens, "
        f"{len(model.linear_modules)} linear layers, revision {(model.revision or 'none')[:12]}, {model.source}{users}"
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

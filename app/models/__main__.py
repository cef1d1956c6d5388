"""Manages the registry of base models on the server's machine: `python -m app.models add | list | show | remove`."""

import argparse
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from os import getpid
from pathlib import Path

from app.db.session import Sessions, connect, open_sessions, transaction
from app.db.tables import RegisteredModel
from app.domain.model import ModelState
from app.errors import BadRequest, ModelAlreadyExists, TunewrightError
from app.models.fetch_repository import FetchRepository
from app.models.fetching import FetchPlace, ModelFetch
from app.models.folder import digest_folder, read_folder
from app.models.service import ModelService, Wanted, wanted_model
from app.settings import get_settings
from app.storage import FAILURES, Storage

SHOW_SECONDS = 0.5


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunewright models")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="add a model to the registry")
    add.add_argument("name")
    place = add.add_mutually_exclusive_group(required=True)
    place.add_argument("--path", type=Path, help="folder with config.json, safetensors and tokenizer")
    place.add_argument("--hub", metavar="ORG/NAME", help="model on the hub")
    add.add_argument("--revision", help="branch, tag or commit on the hub, pinned to its commit [main]")
    add.add_argument("--hub-name", metavar="ORG/NAME", help="hub id of the folder's model, at commit --revision")
    add.add_argument("--projects", type=read_names, default=[], metavar="A,B", help="projects that may use it [all]")
    for command, what in (("show", "show a model and its licence"), ("remove", "remove a model from the registry")):
        commands.add_parser(command, help=what).add_argument("name")
    commands.add_parser("list", help="list the models of the registry")
    return parser.parse_args(arguments)


def read_names(words: str) -> list[str]:
    return [name for name in words.split(",") if name]


def add(sessions: Sessions, given: argparse.Namespace) -> str:
    """Fetch the model in this process, which holds the model's lease. If the process dies, a light worker continues."""
    if given.path:
        read_folder(given.path.absolute())
    if given.path and given.revision and not given.hub_name:
        raise BadRequest("A folder has no revisions; omit --revision, or pass --hub-name.")
    if given.hub and given.hub_name:
        raise BadRequest("--hub-name is for a model from a folder; omit it with --hub.")
    path = str(given.path.absolute()) if given.path else None
    wanted = wanted_model(
        given.name, path, given.hub, given.revision, given.projects, any_path=True, hub_name=given.hub_name
    )
    settings = get_settings()
    worker_id = f"{socket.gethostname()}-{getpid()}"
    if not has_same_files(sessions, wanted):
        with transaction(sessions, "add_model") as session:
            model = ModelService(session).add(wanted)
            claimed = FetchRepository(session).claim(worker_id, settings.lease_seconds, model.id)
        if claimed is not None:
            storage, stopped = Storage(settings.storage), threading.Event()
            signal.signal(signal.SIGINT, lambda *_: stopped.set())
            place = FetchPlace(worker_id, sessions, storage, settings.work_dir, settings.lease_seconds, ())
            fetching = ModelFetch(place, claimed, stopped)
            with show_progress(fetching):
                fetching.run()
    return wait_until_fetched(sessions, given.name)


def has_same_files(sessions: Sessions, wanted: Wanted) -> bool:
    """Return whether the registry has exactly these files under the name, whatever their source. If so,
    change its projects and hub name."""
    with transaction(sessions, "find_model") as session:
        found = ModelService(session).models.find(wanted.name)
    if found is None or found.state != ModelState.ready or wanted.revision is not None:
        return False
    if found.revision != digest_folder(Path(wanted.source)):
        raise ModelAlreadyExists(wanted.name)
    with transaction(sessions, "change_model") as session:
        models = ModelService(session)
        models.change(models.get(None, wanted.name), wanted)
    return True


class show_progress:  # noqa: N801 - reads as the statement it is
    """Shows the progress on a terminal."""

    def __init__(self, fetching: ModelFetch) -> None:
        self._fetching, self._ended = fetching, threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> None:
        if sys.stderr.isatty():
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
            print(file=sys.stderr)

    def _show(self) -> None:
        while not self._ended.wait(SHOW_SECONDS):
            done, total = self._fetching.num_done, self._fetching.num_bytes
            print(
                f"\rFetching the model: {done / 1e9:.2f} of {total / 1e9:.2f} GB ", end="", file=sys.stderr, flush=True
            )


def wait_until_fetched(sessions: Sessions, name: str) -> str:
    """Return the outcome. Waits for a model that a light worker has claimed."""
    while True:
        with transaction(sessions, "find_model") as session:
            models = ModelService(session)
            model = models.get(None, name)
            projects = models.allowed([model]).get(model.id, [])
        if model.state == ModelState.failed:
            raise BadRequest(model.failure_message)
        if model.state == ModelState.ready:
            return describe(model, projects)
        time.sleep(SHOW_SECONDS)


def remove(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "remove_model") as session:
        ModelService(session).remove(given.name)
    return f"Removed {given.name} from the registry. A folder that it was added from is unchanged."


def show_all(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "show_registry") as session:
        models = ModelService(session).all()
        allowed = ModelService(session).allowed(models)
    lines = "\n".join(describe(model, allowed.get(model.id, [])) for model in models)
    return lines or "The registry is empty; add a model with `tunewright models add`."


def show(sessions: Sessions, given: argparse.Namespace) -> str:
    with transaction(sessions, "show_model") as session:
        models = ModelService(session)
        model = models.get(None, given.name)
        text = model.license_text
        summary = describe(model, models.allowed([model]).get(model.id, []))
    return f"{summary}\nLicence: {model.license or 'not stated by the model'}" + (f"\n\n{text}" if text else "")


def describe(model: RegisteredModel, projects: Sequence[str]) -> str:
    users = "" if model.for_all_projects else f", for {', '.join(projects) or 'no project'}"
    if model.state != ModelState.ready:
        why = f": {model.failure_message}" if model.state == ModelState.failed else ""
        return f"{model.name}: {model.state}{why}, {model.source}{users}"
    revision = (model.revision or "none")[:12]
    stated = f", stated as {model.hub_name} at {model.hub_revision or 'an unknown commit'}" if model.hub_name else ""
    return (
        f"{model.name}: {model.architecture}, {model.num_parameters:,} parameters, up to {model.max_seq_len:,} tokens, "
        f"{len(model.linear_modules)} linear layers, revision {revision}, {model.source}{stated}{users}"
    )


def main() -> None:
    given = parse()
    command = {"add": add, "remove": remove, "list": show_all, "show": show}[given.command]
    try:
        print(command(open_sessions(connect(get_settings().database_url, pool_size=1)), given))
    except TunewrightError as error:
        sys.exit(str(error))
    except FAILURES as error:
        sys.exit(f"Cannot write to the storage {get_settings().storage}: {error}. A light worker will try again.")


if __name__ == "__main__":
    main()

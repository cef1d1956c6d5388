"""`python -m app.keys create [--project NAME] [--name NAME] [--read-only | --scope admin]`: prints a new API key, and
nothing else."""

import argparse
import sys
from collections.abc import Sequence

from app.db.projects import FIRST_PROJECT
from app.db.session import connect, open_sessions, transaction
from app.domain.caller import ADMIN, SCOPES, Scope
from app.errors import TunewrightError
from app.keys.service import KeyService
from app.projects.service import ProjectService
from app.settings import get_settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="tunewright keys")
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser("create", help="make an API key and print it once")
    create.add_argument("--project", default=FIRST_PROJECT, help="project it belongs to, which must exist")
    create.add_argument("--name", default="unnamed", help="what it is for")
    rights = create.add_mutually_exclusive_group()
    rights.add_argument("--read-only", action="store_true", help="without the right to change anything")
    rights.add_argument("--scope", choices=["admin"], help="`admin`: also changes what serves all projects")
    given = parser.parse_args()
    engine = connect(get_settings().database_url, pool_size=1)
    try:
        with transaction(open_sessions(engine), "create_key") as session:
            project = ProjectService(session).get(given.project, lock=True)
            key = KeyService(session).create(project.id, given.name, scopes_of(given))
    except TunewrightError as error:
        sys.exit(f"tunewright: {error}")
    print(key)


def scopes_of(given: argparse.Namespace) -> Sequence[Scope]:
    if given.scope == "admin":
        return ADMIN
    return ["read"] if given.read_only else SCOPES


if __name__ == "__main__":
    main()

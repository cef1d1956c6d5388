"""`python -m app.keys create [--project NAME] [--name NAME] [--read-only]`: prints a new API key, and nothing else."""

import argparse

from app.db.projects import find_or_create_project
from app.db.session import connect, open_sessions, transaction
from app.domain.caller import SCOPES
from app.keys.service import KeyService
from app.settings import get_settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="tunewright keys")
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser("create", help="make an API key and print it once")
    create.add_argument("--project", default="default", help="project it belongs to; made if new")
    create.add_argument("--name", default="unnamed", help="what it is for")
    create.add_argument("--read-only", action="store_true", help="without the right to change anything")
    given = parser.parse_args()
    engine = connect(get_settings().database_url, pool_size=1)
    with transaction(open_sessions(engine), "create_key") as session:
        project_id = find_or_create_project(session, given.project)
        key = KeyService(session).create(project_id, given.name, ["read"] if given.read_only else SCOPES)
    print(key)


if __name__ == "__main__":
    main()

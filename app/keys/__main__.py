"""Manages a server's API keys: `python -m app.keys create | list | revoke | rotate`. For a new key, only the key itself
is written to standard output."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from app.db.session import Sessions, connect, open_sessions, transaction
from app.domain.caller import ADMIN, SCOPES, Scope
from app.domain.project import FIRST_PROJECT
from app.errors import TunewrightError
from app.keys.repository import ShownKey
from app.keys.schemas import KeyOut
from app.keys.service import DAY_SECONDS, MAX_LIFE_SECONDS, MAX_OVERLAP_SECONDS, KeyService
from app.projects.service import ProjectService
from app.settings import get_settings

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunewright keys")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="create an API key and print it once")
    create.add_argument("--project", default=FIRST_PROJECT, help="existing project that the key belongs to")
    create.add_argument("--name", default="unnamed", help="name of the key")
    create.add_argument("--expires", type=read_life, metavar="90d", help="lifetime [unlimited]")
    rights = create.add_mutually_exclusive_group()
    rights.add_argument("--read-only", action="store_true", help="create a key that cannot change anything")
    rights.add_argument("--scope", choices=["admin"], help="`admin`: may also manage what all projects share")
    listing = commands.add_parser("list", help="list the keys, newest first, with their last use")
    listing.add_argument("--project", help="only keys of this project, by name or id")
    listing.add_argument("--json", action="store_true", help="print JSON, as the API returns it")
    revoke = commands.add_parser("revoke", help="revoke a key; it stops working within a second")
    rotate = commands.add_parser("rotate", help="replace a key with a new one, which is printed once")
    for command in (revoke, rotate):
        command.add_argument("id", metavar="ID", help="key id: `key-0123…` for the key `tw_0123…_…`")
    overlap = "how long the old key keeps working [1d]"
    rotate.add_argument("--overlap", type=read_overlap, default="1d", metavar="1d", help=overlap)
    return parser.parse_args(arguments)


def read_life(text: str) -> timedelta:
    return read_duration(text, 1, MAX_LIFE_SECONDS)


def read_overlap(text: str) -> timedelta:
    return read_duration(text, 0, MAX_OVERLAP_SECONDS)


def read_duration(text: str, least: int, most: int) -> timedelta:
    match = re.fullmatch(r"(\d{1,12})([smhd]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; use seconds, or 90m, 12h, 2d")
    seconds = int(match[1]) * SECONDS[match[2] or "s"]
    if not least <= seconds <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not between {least} and {most:,} seconds")
    return timedelta(seconds=seconds)


def create(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "create_key") as session:
        project = ProjectService(session).get(given.project, lock=True)
        key = KeyService(session).create(project.id, given.name, scopes_of(given), life=given.expires)
    print(key)


def scopes_of(given: argparse.Namespace) -> Sequence[Scope]:
    if given.scope == "admin":
        return ADMIN
    return ["read"] if given.read_only else SCOPES


def show(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "show_keys") as session:
        if given.project is not None:
            ProjectService(session).get_any(given.project)
        keys = KeyService(session).list(project=given.project)
    if given.json:
        return print(json.dumps([KeyOut.of(key).model_dump(mode="json") for key in keys], indent=2))
    for key in keys:
        print(describe(key))


def describe(shown: ShownKey) -> str:
    key = shown.key
    replaced = f"; replaced by {key.replaced_by}" if key.replaced_by else ""
    return (
        f"{key.id} {shown.state}: {key.name!r} of {shown.project}; {', '.join(key.scopes)}; "
        f"created {_instant(key.created_at)}, last used {_instant(key.last_used_at)}, "
        f"expires {_instant(key.expires_at)}{replaced}"
    )


def _instant(at: datetime | None) -> str:
    """Format the time in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "never"


def revoke(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "revoke_key") as session:
        shown = KeyService(session).revoke(given.id)
    print(f"Revoked {shown.id} ({shown.key.name!r} of {shown.project}).")


def rotate(sessions: Sessions, given: argparse.Namespace) -> None:
    with transaction(sessions, "rotate_key") as session:
        key = KeyService(session).rotate(given.id, given.overlap)
        old = KeyService(session).get(given.id).key
    print(f"{old.id} is valid until {_instant(old.expires_at)} UTC. {old.replaced_by} replaces it:", file=sys.stderr)
    print(key)


def main() -> None:
    given = parse()
    command = {"create": create, "list": show, "revoke": revoke, "rotate": rotate}[given.command]
    engine = connect(get_settings().database_url, pool_size=1)
    try:
        command(open_sessions(engine), given)
    except TunewrightError as error:
        sys.exit(f"tunewright: {error}")


if __name__ == "__main__":
    main()

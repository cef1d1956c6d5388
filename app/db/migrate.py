"""`python -m app.db.migrate`: bring the database to this version's schema, and a new one its first project."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from app.db.session import connect, open_sessions, transaction
from app.projects.lookup import ensure_first_project
from app.settings import get_settings

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def migrate(database_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = database_url
    command.upgrade(config, "head")


def main() -> None:
    url = get_settings().database_url
    migrate(url)
    engine = connect(url, pool_size=1)
    with transaction(open_sessions(engine), "ensure_first_project") as session:
        ensure_first_project(session)
    engine.dispose()


if __name__ == "__main__":
    main()

"""`python -m app.db.migrate` upgrades the database to this version's schema, and creates a new one's first project."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.session import connect, open_sessions, transaction
from app.db.tables import Project
from app.domain.ids import new_id
from app.domain.project import FIRST_PROJECT
from app.settings import get_settings

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def migrate(database_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = database_url
    command.upgrade(config, "head")


def ensure_first_project(session: Session) -> None:
    """Create the first project of a database that has none. A name that a user mistypes never creates one."""
    if not session.scalar(select(exists().where(Project.id.is_not(None)))):
        session.execute(insert(Project).values(id=new_id("proj"), name=FIRST_PROJECT).on_conflict_do_nothing())


def main() -> None:
    url = get_settings().database_url
    migrate(url)
    engine = connect(url, pool_size=1)
    with transaction(open_sessions(engine), "ensure_first_project") as session:
        ensure_first_project(session)
    engine.dispose()


if __name__ == "__main__":
    main()

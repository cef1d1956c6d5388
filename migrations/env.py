"""How Alembic reaches the database: `DATABASE_URL`, or what the caller put into the configuration."""

from alembic import context
from sqlalchemy import text

from app.db.base import Base
from app.db.session import connect
from app.db.tables import Job
from app.failpoints import reach
from app.settings import get_settings

MIGRATION_LOCK = 7_411_902_556
"""Advisory lock: two processes that migrate at once take turns."""

assert Job.metadata is Base.metadata


def main() -> None:
    engine = connect(context.config.attributes.get("database_url") or get_settings().database_url)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=False)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            context.run_migrations()
            reach("before_migrate")
        connection.commit()
        reach("after_migrate")
    engine.dispose()


main()

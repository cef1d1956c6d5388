"""The migrations create the tables that the code defines."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from app.db.base import Base
from app.db.migrate import MIGRATIONS, migrate
from app.db.tables import Job
from app.domain.jobs.state import TRANSITIONS

assert Job.metadata is Base.metadata


@pytest.fixture
def config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = database_url
    return config


@pytest.fixture
def empty_database(config: Config, engine: Engine) -> Engine:
    command.downgrade(config, "base")
    return engine


def test_migrations_create_the_tables_that_the_code_defines(empty_database: Engine, database_url: str) -> None:
    migrate(database_url)
    with empty_database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, Base.metadata) == []


def test_downgrading_to_base_leaves_nothing(empty_database: Engine) -> None:
    with empty_database.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
        functions = (
            "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public'"
        )
        assert connection.scalar(text(functions)) == 0


def test_migrating_again_changes_nothing(database_url: str, engine: Engine) -> None:
    migrate(database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_server_defaults_match_the_code(engine: Engine) -> None:
    """Alembic cannot compare defaults that are functions, so this test only compares which columns have one."""
    with engine.connect() as connection:
        inspector = inspect(connection)
        for name, table in Base.metadata.tables.items():
            found = {column["name"] for column in inspector.get_columns(name) if column.get("default") is not None}
            assert found == {column.name for column in table.columns if column.server_default and not column.identity}


def test_the_transition_trigger_matches_the_code(engine: Engine) -> None:
    """A change of TRANSITIONS without a migration would otherwise go unnoticed until a job makes that transition."""
    with engine.connect() as connection:
        source = connection.scalar(text("SELECT prosrc FROM pg_proc WHERE proname = 'refuse_unknown_job_transition'"))
    pairs = {(str(state), str(next_state)) for state in TRANSITIONS for next_state in TRANSITIONS[state]}
    assert source is not None
    assert all(f"('{state}', '{next_state}')" in source for state, next_state in pairs)
    assert source.count("('") == len(pairs)

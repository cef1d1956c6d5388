"""Migrations against the tables that the code believes in."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, inspect, text

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
def emptied(config: Config, engine: Engine) -> Engine:
    command.downgrade(config, "base")
    return engine


def test_migrations_make_the_tables_of_the_code(emptied: Engine, database_url: str) -> None:
    migrate(database_url)
    with emptied.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, Base.metadata) == []


def test_the_way_down_leaves_nothing(emptied: Engine) -> None:
    with emptied.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
        functions = (
            "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public'"
        )
        assert connection.scalar(text(functions)) == 0


def test_migrating_again_changes_nothing(database_url: str, engine: Engine) -> None:
    migrate(database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_server_defaults_are_the_codes(engine: Engine) -> None:
    """Alembic's own comparison of defaults is off, since it stumbles over functions; this one asks only whether."""
    with engine.connect() as connection:
        inspector = inspect(connection)
        for name, table in Base.metadata.tables.items():
            found = {column["name"] for column in inspector.get_columns(name) if column.get("default") is not None}
            assert found == {column.name for column in table.columns if column.server_default and not column.identity}


def test_the_guard_in_the_database_is_made_from_the_present_table(engine: Engine) -> None:
    """A change of TRANSITIONS without a migration would go unnoticed until a job hits it."""
    with engine.connect() as connection:
        source = connection.scalar(text("SELECT prosrc FROM pg_proc WHERE proname = 'refuse_unknown_job_transition'"))
    pairs = {(str(state), str(onward)) for state in TRANSITIONS for onward in TRANSITIONS[state]}
    assert source is not None
    assert all(f"('{state}', '{onward}')" in source for state, onward in pairs)
    assert source.count("('") == len(pairs)


def insert(connection: Connection, table: str, **values: object) -> None:
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)


def add_model(connection: Connection, project: str, name: str, revision: str) -> None:
    facts = {"architecture": "L", "num_parameters": 1, "max_seq_len": 8, "linear_modules": [], "config": "{}"}
    insert(
        connection,
        "base_models",
        id=f"{name}-{project}",
        project_id=project,
        name=name,
        source="/m",
        **facts,
        revision=revision,
    )


def test_keys_that_write_keep_the_sight_of_webhooks(config: Config, engine: Engine) -> None:
    command.downgrade(config, "0028")
    scopes = {"a": ["read", "write"], "b": ["read"], "c": ["admin", "read", "write"]}
    with engine.begin() as connection:
        insert(connection, "projects", id="p", name="p")
        for id, given in scopes.items():
            insert(connection, "api_keys", id=id, project_id="p", name=id, sha256="0", scopes=given)
    command.upgrade(config, "head")
    query = text("SELECT id, scopes FROM api_keys ORDER BY id")
    with engine.connect() as connection:
        found = {row.id: row.scopes for row in connection.execute(query)}
    assert found == {"a": ["read", "webhooks", "write"], "b": ["read"], "c": ["admin", "read", "webhooks", "write"]}
    command.downgrade(config, "0028")
    with engine.connect() as connection:
        assert {row.id: row.scopes for row in connection.execute(query)} == scopes


def test_models_of_several_projects_become_one_registry(config: Config, engine: Engine) -> None:
    """One revision, one model; another one keeps its project and gets another name, in unfinished jobs too."""
    command.downgrade(config, "0017")
    with engine.begin() as connection:
        for project in ("a", "b", "c d"):
            insert(connection, "projects", id=project, name=project)
            add_model(connection, project, "tiny", "2" if project == "c d" else "1")
            job = {"base_model": "tiny", "method": "lora", "priority": 0, "device": "auto", "min_memory_gb": 0}
            for state in ("queued", "failed"):
                spec = '{"base_model": "tiny"}'
                insert(
                    connection,
                    "jobs",
                    id=f"{state}-{project}",
                    project_id=project,
                    state=state,
                    **job,
                    spec=spec,
                    metadata="{}",
                )
        add_model(connection, "b", "own", "3")
    command.upgrade(config, "head")
    with engine.connect() as connection:
        allowed = connection.execute(
            text("SELECT name, project_id FROM base_models JOIN model_permissions ON model_id = id ORDER BY 1, 2")
        ).all()
        jobs = connection.execute(
            text("SELECT id, base_model FROM jobs WHERE base_model = spec->>'base_model' ORDER BY id")
        ).all()
        assert connection.scalar(text("SELECT count(*) FROM base_models WHERE for_all_projects")) == 0
    assert allowed == [("own", "b"), ("tiny", "a"), ("tiny", "b"), ("tiny-c-d", "c d")]
    names = {"queued-c d": "tiny-c-d"}
    assert jobs == [
        (f"{state}-{id}", names.get(f"{state}-{id}", "tiny"))
        for state in ("failed", "queued")
        for id in ("a", "b", "c d")
    ]
    command.downgrade(config, "0017")
    with engine.connect() as connection:
        back = connection.execute(text("SELECT project_id, name FROM base_models ORDER BY 1, 2")).all()
    assert back == [("a", "tiny"), ("b", "own"), ("b", "tiny"), ("c d", "tiny-c-d")]


def test_the_models_of_the_only_project_are_for_all(config: Config, engine: Engine) -> None:
    command.downgrade(config, "0017")
    with engine.begin() as connection:
        insert(connection, "projects", id="a", name="a")
        add_model(connection, "a", "tiny", "1")
    command.upgrade(config, "head")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT for_all_projects FROM base_models"))

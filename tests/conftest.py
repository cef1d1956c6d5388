"""Provides real servers: one embedded PostgreSQL and Redis per run, and one database that each test leaves empty."""

import gc
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db.migrate import migrate
from app.db.session import Sessions, connect, open_sessions, transaction
from app.domain.caller import SCOPES
from app.keys.service import KeyService
from app.local.postgres import embedded_postgres
from app.local.redis import embedded_redis
from app.main import create_app, running
from app.projects.lookup import find_or_create_project
from app.settings import Settings
from app.web.server.guarded_protocol import GuardedProtocol
from tests.budgets import Budgets
from tests.fixtures.databases import KeptDatabase
from tests.fixtures.signals import let_children_hear
from worker.training.__main__ import SPINS

let_children_hear()
os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # before torch is loaded, because tests run in parallel
hypothesis.settings.register_profile("no-deadline", deadline=None)  # a busy machine's pauses are not failures
hypothesis.settings.load_profile("no-deadline")
hypothesis.settings.register_profile("nightly", max_examples=2_400, stateful_step_count=50, deadline=None)
if "HYPOTHESIS_PROFILE" in os.environ:
    hypothesis.settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])


def pytest_collection_finish() -> None:
    """Leave the collected tests and all modules out of garbage collections: they live as long as the process."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Budgets())


@pytest.fixture(autouse=True)
def _keep_log_configuration() -> Iterator[None]:
    """Undo what a test configures: its log may go to a file that is closed after it, such as captured output."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Create the servers' folder outside the checkout, because PostgreSQL under root runs as another user."""
    with tempfile.TemporaryDirectory(prefix="tunewright-tests-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def migrated_url(server_folder: Path) -> Iterator[str]:
    with embedded_postgres(server_folder, durable=False) as url:
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> Iterator[str]:
    with embedded_redis(server_folder, durable=False) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """Empty Redis and return its URL."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def kept_database(migrated_url: str) -> Iterator[KeptDatabase]:
    kept = KeptDatabase(migrated_url)
    yield kept
    kept.drop()


@pytest.fixture
def database_url(kept_database: KeptDatabase) -> Iterator[str]:
    """Yield the URL of a migrated database without rows, which no other test uses at the same time."""
    yield kept_database.url
    kept_database.clean()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    return open_sessions(engine)


@pytest.fixture
def session(sessions: Sessions) -> Iterator[Session]:
    with sessions() as session, session.begin():
        yield session
        session.rollback()


@pytest.fixture
def project_id(sessions: Sessions) -> str:
    with transaction(sessions) as session:
        return find_or_create_project(session, "default")


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        data_dir=tmp_path / "data",
        cache_dir=tmp_path / "cache",
        lease_seconds=6,
        heartbeat_seconds=1,
        recovery_seconds=0.5,
        poll_seconds=0.5,
    )


@pytest.fixture(scope="session")
def application() -> FastAPI:
    """Return an app whose routes are built once a run, a tenth of a second of a core."""
    return create_app(Settings())


@pytest.fixture(scope="session")
def live_application() -> FastAPI:
    """Return a second one, since a test may use `server` and `live_server`, and an app serves once at a time."""
    return create_app(Settings())


def run_with(app: FastAPI, settings: Settings) -> FastAPI:
    """Let the app's next start use the settings. It replaces everything in the app's state."""
    settings.data_dir.mkdir(exist_ok=True)
    app.router.lifespan_context = lambda app: running(app, settings)
    return app


@pytest.fixture
def server(application: FastAPI, settings: Settings) -> Iterator[TestClient]:
    """Run the whole API in this process; the client sends no key."""
    with TestClient(run_with(application, settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def make_key(sessions: Sessions) -> Callable[..., str]:
    def make(project: str = "default", *scopes: str) -> str:
        with transaction(sessions) as session:
            return KeyService(session).create(find_or_create_project(session, project), "test", scopes or SCOPES)

    return make


@pytest.fixture
def api(server: TestClient, make_key: Callable[..., str], project_id: str) -> TestClient:
    """Return the API's client with a key of the project `default`."""
    server.headers["Authorization"] = f"Bearer {make_key()}"
    return server


@pytest.fixture
def as_project(make_key: Callable[..., str]) -> Callable[[str], dict[str, str]]:
    """Return a function that makes headers with another project's key."""
    return lambda project: {"Authorization": f"Bearer {make_key(project)}"}


@contextmanager
def serving(app: Any, protocol: type[GuardedProtocol] = GuardedProtocol) -> Iterator[str]:
    """Serve an ASGI application on a real socket, with uvicorn configured as in production; yield its URL."""
    config = uvicorn.Config(app, port=0, http=protocol, ws="none", log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.02)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def live_server(live_application: FastAPI, settings: Settings) -> Iterator[str]:
    """Serve the API on a real socket; yield its URL."""
    with serving(run_with(live_application, settings)) as url:
        yield url

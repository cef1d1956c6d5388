"""Creates the ASGI app and the resources of its lifetime. `uvicorn --factory app.main:create_server` serves it."""

import gc
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.routing import Mount
from starlette.types import Scope

from app import health, live_metrics, logs
from app.adapters.routes import router as adapters
from app.dataset_checks.routes import router as dataset_checks
from app.datasets.routes import router as datasets
from app.db.session import Reads, Sessions, connect, open_sessions, transaction
from app.domain.caller import RecognizedKey
from app.jobs.artifacts.routes import router as artifacts
from app.jobs.checkpoints.routes import router as checkpoints
from app.jobs.events.routes import router as events
from app.jobs.metrics.routes import router as metrics
from app.jobs.read_routes import SeenJobs
from app.jobs.read_routes import router as reading_jobs
from app.jobs.routes import router as jobs
from app.jobs.shown import find_versions
from app.jobs.waits import JobWaits
from app.jobs.watching.hub import JobHub
from app.jobs.watching.news import find_news
from app.jobs.watching.project_news import find_project_news
from app.jobs.watching.project_watcher import ProjectHub
from app.jobs.watching.routes import router as watching
from app.keys.routes import router as keys
from app.keys.service import KeyService
from app.models.routes import router as models
from app.openai.app import create_face
from app.page.routes import create_router as create_page
from app.page.site import read_site
from app.projects.routes import router as projects
from app.queues.routes import router as queues
from app.secrets.private_memory import keep_memory_private
from app.sessions.routes import router as browser_sessions
from app.sessions.service import SessionService
from app.settings import Settings, get_settings
from app.storage import Storage
from app.uploads.routes import router as uploads
from app.web import problems
from app.web.answers.reference import create_documented
from app.web.browsers.session_cookies import SessionCookies
from app.web.key_cache import KeyCache
from app.web.parameters import REFUSE_UNKNOWN
from app.web.request_id import OPENAI_FACE, mark_answers
from app.web.server.stopping import on_stop_signal
from app.web.version import VERSION
from app.webhooks.routes import router as webhooks
from app.webhooks.service import open_lookups
from app.workers.routes import router as workers

ROUTERS = (
    # Polls come first: the routes are checked in this order.
    reading_jobs,
    jobs,
    events,
    watching,
    datasets,
    dataset_checks,
    uploads,
    metrics,
    artifacts,
    checkpoints,
    adapters,
    models,
    workers,
    queues,
    webhooks,
    projects,
    keys,
)
DESCRIPTION = """Fine-tune language models over HTTP: upload a dataset, create a job, watch it, download an adapter.

Every route except `/`, the health checks, and signing in and out requires `Authorization: Bearer <key>`, or the session
cookie of a browser that has signed in (`POST /session`). Errors are RFC 9457 problem+json:
`code` is stable, and `detail` says what to do.

[/v1](/v1/docs) serves OpenAI's API over the same resources."""

NO_ROUTE: Scope = {"type": "http", "method": "GET", "path": "/-", "root_path": "", "headers": []}
"""Is a request that no route answers."""


def create_server() -> FastAPI:
    """Create the app of a process that does nothing else. Imported objects live as long as the process, so they are
    excluded from full garbage collections, which would take 100 ms to traverse them."""
    keep_memory_private()
    app = create_app()
    build_routes(app)
    gc.collect()
    gc.freeze()
    return app


def build_routes(app: FastAPI) -> None:
    """Build the routes of the app and of the apps mounted in it. FastAPI builds them when it first looks for one, and
    the first request would wait a tenth of a second."""
    for route in app.routes:
        route.matches(NO_ROUTE)
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            build_routes(route.app)


@asynccontextmanager
async def running(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Provide the resources that the app uses while it serves."""
    engine = connect(settings.database_url)
    app.state.settings = settings
    app.state.sessions = sessions = open_sessions(engine)
    app.state.reads = reads = Reads(settings.database_url)
    app.state.storage = Storage(settings.storage)
    app.state.redis = live_metrics.connect_async(settings.redis_url)
    app.state.keys = keys = open_key_cache(reads, sessions)
    app.state.session_cookies = cookies = open_session_cookies(reads, sessions)
    app.state.seen_jobs = SeenJobs()
    app.state.lookups = open_lookups()
    app.state.job_waits = waits = JobWaits(
        lambda project_id, ids: reads.ask(lambda connection: find_versions(connection, project_id, ids))
    )
    app.state.job_hub = hub = JobHub(
        lambda asked: reads.ask(lambda connection: find_news(connection, asked)), app.state.redis
    )

    app.state.project_hub = project_hub = ProjectHub(
        lambda project_id, known: reads.ask(lambda connection: find_project_news(connection, project_id, known))
    )

    def end_waits() -> None:
        for each in (waits, hub, project_hub):
            each.close()

    with on_stop_signal(end_waits):
        yield
    end_waits()
    await hub.stop()
    await project_hub.stop()
    await keys.close()
    await cookies.tokens.close()
    await app.state.redis.aclose()
    reads.close()
    engine.dispose()


def open_key_cache(reads: Reads, sessions: Sessions) -> KeyCache:
    def recognize(key: str) -> RecognizedKey | None:
        return reads.ask(lambda connection: KeyService(Session(connection)).recognize(key))

    return KeyCache(recognize, partial(note_key_use, sessions))


def note_key_use(sessions: Sessions, key_id: str) -> None:
    with transaction(sessions, "note_key_use") as session:
        KeyService(session).note_use(key_id)


def open_session_cookies(reads: Reads, sessions: Sessions) -> SessionCookies:
    def recognize(token: str) -> RecognizedKey | None:
        return reads.ask(lambda connection: recognize_token(Session(connection), token))

    def find_server_id() -> str:
        return reads.ask(lambda connection: SessionService(Session(connection)).get_server_id())

    return SessionCookies(KeyCache(recognize, partial(note_key_use, sessions)), find_server_id)


def recognize_token(session: Session, token: str) -> RecognizedKey | None:
    """Return the data of the key for which a browser's session stands, while both are valid."""
    found = SessionService(session).find(token)
    key = KeyService(session).find_valid(found.key_id) if found else None
    if found is None or key is None:
        return None
    left = found.seconds_left if key.seconds_left is None else min(found.seconds_left, key.seconds_left)
    return key._replace(seconds_left=left)


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or get_settings()
    logs.configure()

    app = create_documented(
        title="Tunewright",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lambda app: running(app, settings),
        separate_input_output_schemas=False,
    )
    mark_answers(app)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router, dependencies=REFUSE_UNKNOWN)
    for router in (health.router, create_page(read_site()), browser_sessions):
        app.include_router(router)
    face = Mount(OPENAI_FACE, create_face(app.state))
    face.path_regex = re.compile(face.path_regex.pattern, re.DOTALL)  # a requested path may contain a line break
    app.router.routes.insert(0, face)
    return app

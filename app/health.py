"""Serves `/healthz`, which shows that the process runs, and `/readyz`, which shows that its dependencies answer."""

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.db.session import transaction
from app.workers.presence import count_online

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class OnlineWorkers(BaseModel):
    """Number of online workers that accept work, on all machines, by kind of work."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    training: int
    """Workers that run jobs. Without one, jobs are accepted and wait."""
    light: int
    """Workers that inspect datasets. Without one, datasets are accepted and wait for inspection."""


class Readiness(BaseModel):
    """Readiness of the server. Jobs are accepted while `database` is ok. Without `redis` they still run, but start and
    report metrics later."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    database: Literal["ok", "unreachable"]
    redis: Literal["ok", "unreachable"]
    workers: OnlineWorkers | None
    """For monitoring only; null while the database is unreachable."""


@router.get("/healthz", summary="Check liveness")
async def healthz() -> Health:
    """Return 200 while the process serves requests, regardless of the database."""
    return Health()


@router.get(
    "/readyz",
    summary="Check readiness",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "The database is unreachable."}},
)
async def readyz(request: Request) -> Response:
    """Return 200 while the database is reachable. The response also shows the other dependencies. Needs no key."""

    def ask_database() -> OnlineWorkers:
        with transaction(request.app.state.sessions, "readyz") as session:
            return OnlineWorkers(**count_online(session, ("training", "light")))

    ready = Readiness(database="ok", redis="ok", workers=None)
    try:
        ready.workers = await run_in_threadpool(ask_database)
    except SQLAlchemyError:
        ready.database = "unreachable"
    try:
        await request.app.state.redis.ping()
    except RedisError:
        ready.redis = "unreachable"
    return JSONResponse(ready.model_dump(), 200 if ready.database == "ok" else 503)

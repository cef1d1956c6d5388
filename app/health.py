"""`/healthz`: the process lives. `/readyz`: what it needs answers too."""

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
    """Workers that are online and take work, of all machines, by what they do."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    training: int
    """Without one, jobs are accepted and wait."""
    light: int
    """Without one, datasets are accepted and wait for their inspection."""


class Readiness(BaseModel):
    """Jobs are accepted while `database` is ok; without `redis` they still run, but start and show later."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    database: Literal["ok", "unreachable"]
    redis: Literal["ok", "unreachable"]
    workers: OnlineWorkers | None
    """Told for those who watch; null while the database does not answer."""


@router.get("/healthz", summary="Check liveness")
async def healthz() -> Health:
    """200 as long as the process serves requests, whatever the database does."""
    return Health()


@router.get(
    "/readyz",
    summary="Check readiness",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "The database does not answer."}},
)
async def readyz(request: Request) -> Response:
    """200 while the database answers; what else answers is told too. Asks for no key."""

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

"""Provides the routes' dependencies: a session that commits before the answer, reads without a session, storage, and a
page's bounds. Dependencies that never block are `async`, because a plain function costs a turn of a thread."""

from collections.abc import AsyncIterator
from typing import Annotated, NamedTuple

from fastapi import Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.db.session import Reads, transaction
from app.domain.cursor import Cursor
from app.settings import Settings
from app.storage import Storage


async def get_session(request: Request) -> AsyncIterator[Session]:
    """Open the session at once, because that does not query the database, and close it in a thread."""
    manager = transaction(request.app.state.sessions, request.scope["endpoint"].__name__)
    session = manager.__enter__()
    try:
        yield session
    except BaseException as error:
        if not await run_in_threadpool(manager.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        await run_in_threadpool(manager.__exit__, None, None, None)


# scope="function" ends the dependency, and so commits, before the response is sent.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]


def reads_of(request: Request) -> Reads:
    """Return the reads. This is not a dependency, because each dependency costs time in every request."""
    reads: Reads = request.app.state.reads
    return reads


async def get_storage(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


StorageDep = Annotated[Storage, Depends(get_storage)]


async def get_app_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(get_app_settings)]


class PageBounds(NamedTuple):
    limit: int
    after: Cursor | None


async def get_page(
    limit: Annotated[int, Query(ge=1, le=100, description="Items per page.")] = 20,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page.")] = None,
) -> PageBounds:
    return PageBounds(limit, Cursor.decode(cursor) if cursor else None)


PageDep = Annotated[PageBounds, Depends(get_page)]

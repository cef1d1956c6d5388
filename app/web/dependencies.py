"""What routes are given: a session whose commit comes before the answer, storage, and a page's bounds."""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from fastapi import Depends, Query, Request
from sqlalchemy.orm import Session

from app.db.session import transaction
from app.domain.page import Cursor
from app.settings import Settings
from app.storage import Storage


def get_session(request: Request) -> Iterator[Session]:
    with transaction(request.app.state.sessions, request.scope["endpoint"].__name__) as session:
        yield session


# scope="function" ends the dependency, and so commits, before the response is sent.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]


def get_storage(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


StorageDep = Annotated[Storage, Depends(get_storage)]


def get_app_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(get_app_settings)]


class PageBounds(NamedTuple):
    limit: int
    after: Cursor | None


def get_page(
    limit: Annotated[int, Query(ge=1, le=100, description="Items a page.")] = 20,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
) -> PageBounds:
    return PageBounds(limit, Cursor.decode(cursor) if cursor else None)


PageDep = Annotated[PageBounds, Depends(get_page)]

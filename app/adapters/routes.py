"""Serves `/adapters`: list, get, download and delete trained adapters.

An adapter's name (`ft:…`) is accepted wherever its id is. A name may contain slashes, so the route that would match all
of them comes last.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.adapters.schemas import AdapterOut, AdapterSummary
from app.adapters.service import AdapterService
from app.errors import AdapterNotFound, AmbiguousName, ArtifactNotFound, InvalidCursor, RangeNotSatisfiable
from app.web.auth import CallerDep
from app.web.dependencies import PageDep, SessionDep, StorageDep
from app.web.download import CONDITIONS, OCTETS, TAR, bytes_as, download, tar_of
from app.web.page_schema import Page, page_of
from app.web.problems import problems

router = APIRouter(prefix="/adapters", tags=["adapters"])


@router.get("", summary="List adapters", responses=problems(InvalidCursor))
def list_adapters(
    caller: CallerDep,
    session: SessionDep,
    page: PageDep,
    base_model: Annotated[
        str | None, Query(max_length=200, pattern=r"^[!-~]+$", description="Only adapters of this base model.")
    ] = None,
) -> Page[AdapterSummary]:
    """List the project's adapters, newest first."""
    service = AdapterService(session)
    adapters = service.list(caller.project_id, base_model, page.limit, page.after)
    sizes = service.sizes(caller.project_id, adapters)
    return page_of(adapters, page.limit, lambda adapter: AdapterSummary.of(adapter, sizes.get(adapter.id, 0)))


@router.head("/{id:path}/files/{path:path}", include_in_schema=False)
@router.get(
    "/{id:path}/files/{path:path}",
    summary="Download a file of an adapter",
    response_class=Response,
    openapi_extra=CONDITIONS,
    responses=bytes_as(OCTETS) | problems(AdapterNotFound, AmbiguousName, ArtifactNotFound, RangeNotSatisfiable),
)
def get_file(
    id: str, path: str, request: Request, caller: CallerDep, session: SessionDep, storage: StorageDep
) -> Response:
    """Download one file of the adapter's folder, for example `adapter_model.safetensors`. Supports `Range`."""
    file = AdapterService(session).get_file(caller.project_id, id, path)
    return download(
        request,
        storage,
        key=file.storage_key,
        size=file.size,
        sha256=file.sha256,
        filename=file.path.rsplit("/", 1)[-1],
        at=file.created_at,
    )


@router.head("/{id:path}/archive", include_in_schema=False)
@router.get(
    "/{id:path}/archive",
    summary="Download an adapter",
    response_class=Response,
    openapi_extra=CONDITIONS,
    responses=bytes_as(TAR) | problems(AdapterNotFound, AmbiguousName, ArtifactNotFound, RangeNotSatisfiable),
)
def get_archive(id: str, request: Request, caller: CallerDep, session: SessionDep, storage: StorageDep) -> Response:
    """Download the adapter's folder as one tar. Supports `Range`; `Repr-Digest` has the SHA-256 of the whole file."""
    service = AdapterService(session)
    adapter, archive = service.get(caller.project_id, id), service.get_archive(caller.project_id, id)
    return download(
        request,
        storage,
        key=archive.storage_key,
        size=archive.size,
        sha256=archive.sha256,
        filename=tar_of(adapter.name),
        at=archive.created_at,
        media_type=TAR,
    )


@router.get("/{id:path}", summary="Get an adapter", responses=problems(AdapterNotFound, AmbiguousName))
def get_adapter(id: str, caller: CallerDep, session: SessionDep) -> AdapterOut:
    """Get an adapter: its base model, its manifest and its files. `id` may be the adapter's name (`ft:…`), as for all
    its routes."""
    service = AdapterService(session)
    return AdapterOut.of_parts(service.get(caller.project_id, id), service.parts(caller.project_id, id))


@router.delete(
    "/{id:path}", status_code=204, summary="Delete an adapter", responses=problems(AdapterNotFound, AmbiguousName)
)
def delete_adapter(id: str, caller: CallerDep, session: SessionDep) -> None:
    """Delete an adapter and its files. The job that created it is kept, without these files. This cannot be undone."""
    AdapterService(session).delete(caller.project_id, id)

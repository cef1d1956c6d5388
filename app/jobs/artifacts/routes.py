"""Serves a job's artifacts: their list, and the bytes of each."""

from fastapi import APIRouter, Request, Response

from app.artifacts.repository import ArtifactRepository
from app.artifacts.schemas import ArtifactList, ArtifactOut
from app.domain.ids import is_id
from app.errors import ArtifactNotFound, JobNotFound, RangeNotSatisfiable
from app.jobs.service import JobService
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep, StorageDep
from app.web.download import CONDITIONS, OCTETS, bytes_as, download
from app.web.problems import problems

router = APIRouter(tags=["artifacts"])


@router.get("/jobs/{id}/artifacts", summary="List artifacts", responses=problems(JobNotFound))
def list_artifacts(id: str, caller: CallerDep, session: SessionDep) -> ArtifactList:
    """List the files of the result (an adapter's files and its archive, or those of a fully fine-tuned model) and the
    reports, such as `row_losses.csv`."""
    job = JobService(session).get(caller.project_id, id)
    artifacts = ArtifactRepository(session).of_job(caller.project_id, job.id)
    return ArtifactList(items=[ArtifactOut.of(artifact) for artifact in artifacts])


@router.head("/artifacts/{id}/content", include_in_schema=False)
@router.get(
    "/artifacts/{id}/content",
    summary="Download an artifact",
    response_class=Response,
    openapi_extra=CONDITIONS,
    responses=bytes_as(OCTETS) | problems(ArtifactNotFound, RangeNotSatisfiable),
)
def get_content(id: str, request: Request, caller: CallerDep, session: SessionDep, storage: StorageDep) -> Response:
    """Download the file. Supports `Range`; `ETag` is strong, and `Repr-Digest` has the SHA-256 of the whole file."""
    artifact = ArtifactRepository(session).find(caller.project_id, id) if is_id(id, "art") else None
    if artifact is None:
        raise ArtifactNotFound(id)
    return download(
        request,
        storage,
        key=artifact.storage_key,
        size=artifact.size,
        sha256=artifact.sha256,
        filename=artifact.path.rsplit("/", 1)[-1],
        at=artifact.created_at,
    )

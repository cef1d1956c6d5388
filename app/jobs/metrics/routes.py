"""Serves a job's metrics: its curves, downsampled for a plot or page by page, and all values as files."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from app.db.session import hold_snapshot
from app.errors import BadRequest, JobNotFound
from app.jobs.metrics.csv_export import as_csv, read_windows
from app.jobs.metrics.curve import ENDLESS, Span
from app.jobs.metrics.repository import MetricRepository
from app.jobs.metrics.schemas import MetricList
from app.jobs.repository import JobRepository
from app.web.auth import CallerDep
from app.web.dependencies import SessionDep
from app.web.download import content_disposition
from app.web.problems import problems

router = APIRouter(prefix="/jobs", tags=["watching"])

MOST_POINTS = 2000
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
CSV_FILE: dict[int | str, dict[str, Any]] = {200: {"content": {CSV: {"schema": {"type": "string"}}}}}
PARQUET_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}}}
}
Names = Annotated[tuple[str, ...], Query(description="Only these metrics; may be repeated.")]
AllAttempts = Annotated[bool, Query(description="Include values beyond the step from which a later attempt resumed.")]


@router.get("/{id}/metrics", summary="Get metrics", responses=problems(JobNotFound, BadRequest))
def list_metrics(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    names: Names = (),
    from_step: Annotated[int | None, Query(ge=0, le=ENDLESS, description="First step of the range.")] = None,
    to_step: Annotated[int | None, Query(ge=0, le=ENDLESS, description="Last step of the range.")] = None,
    max_points: Annotated[
        int | None, Query(ge=20, le=MOST_POINTS, description="Maximum number of points in a range; default 2000.")
    ] = None,
    after_step: Annotated[
        int | None, Query(ge=-1, le=ENDLESS, description="Return every point after this step, page by page.")
    ] = None,
    limit: Annotated[
        int | None, Query(ge=1, le=MOST_POINTS, description="Maximum number of points per page, with `after_step`.")
    ] = None,
) -> MetricList:
    """Get a job's metrics: for each step, the values of the latest attempt that measured it.

    A range of any length is returned in at most `max_points` points. If it contains more, it is `downsampled`: the
    points are shared evenly among the metrics, and each metric has its lowest and highest measured value in each of
    several equal groups of steps. With `after_step` or `limit`, every point is returned, page by page.

    A stream that begins after `stream_cursor` continues the curves without a gap or a repeat.
    """
    hold_snapshot(session)
    JobRepository(session).get(caller.project_id, id)
    metrics = MetricRepository(session)
    newest = "{}.{}".format(*metrics.find_newest(caller.project_id, id))
    by_page, by_range = (after_step, limit), (from_step, to_step, max_points)
    if by_page == (None, None):
        bounds = (from_step or 0, ENDLESS if to_step is None else to_step)
        found = metrics.overview(caller.project_id, id, names, *bounds, max_points or MOST_POINTS)
        return MetricList(items=found.points, next_after_step=None, downsampled=found.downsampled, stream_cursor=newest)
    if by_range != (None, None, None):
        raise BadRequest(
            "after_step and limit page through every point; from_step, to_step and max_points downsample a range. "
            "Use only one of these two groups."
        )
    size = limit or MOST_POINTS
    points = metrics.curve(caller.project_id, id, names, -1 if after_step is None else after_step, size + 1)
    following = points[size - 1].step if len(points) > size else None
    return MetricList(items=points[:size], next_after_step=following, downsampled=False, stream_cursor=newest)


@router.head("/{id}/metrics.csv", include_in_schema=False)
@router.get(
    "/{id}/metrics.csv",
    summary="Get metrics as CSV",
    response_class=StreamingResponse,
    responses=CSV_FILE | problems(JobNotFound),
)
def get_metrics_csv(
    id: str,
    request: Request,
    caller: CallerDep,
    session: SessionDep,
    names: Names = (),
    all_attempts: AllAttempts = False,
) -> StreamingResponse:
    """Download every value, one per line: `name,step,value,attempt,number,measured_at`, curve by curve."""
    spans = find_spans(session, caller.project_id, id, names, all_attempts)
    lines = read_windows(request.app.state.sessions, caller.project_id, id, spans)
    body = () if request.method == "HEAD" else as_csv(lines)
    return StreamingResponse(body, media_type=CSV, headers=attachment(f"{id}-metrics.csv"))


@router.head("/{id}/metrics.parquet", include_in_schema=False)
@router.get(
    "/{id}/metrics.parquet",
    summary="Get metrics as Parquet",
    response_class=StreamingResponse,
    responses=PARQUET_FILE | problems(JobNotFound),
)
def get_metrics_parquet(
    id: str,
    request: Request,
    caller: CallerDep,
    session: SessionDep,
    names: Names = (),
    all_attempts: AllAttempts = False,
) -> StreamingResponse:
    """Download every value, one per row: `name`, `step`, `value`, `attempt`, `number`, `measured_at`, curve by
    curve."""
    from app.jobs.metrics.parquet_export import as_parquet  # few servers ever write one, and pyarrow is slow to import

    spans = find_spans(session, caller.project_id, id, names, all_attempts)
    lines = read_windows(request.app.state.sessions, caller.project_id, id, spans)
    body = () if request.method == "HEAD" else as_parquet(lines)
    return StreamingResponse(body, media_type=PARQUET, headers=attachment(f"{id}-metrics.parquet"))


def find_spans(session: SessionDep, project_id: str, id: str, names: tuple[str, ...], all_attempts: bool) -> list[Span]:
    JobRepository(session).get(project_id, id)
    spans = MetricRepository(session).spans(project_id, id, names, rewound_too=all_attempts)
    return sorted(spans, key=lambda span: (span.name, span.attempt))


def attachment(filename: str) -> dict[str, str]:
    return {"Content-Disposition": content_disposition(filename)}

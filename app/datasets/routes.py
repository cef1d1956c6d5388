"""Serves `/datasets`: upload, list, get, download and delete the files that jobs train on."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Json

from app.datasets.intake import ReceivedFile, enter
from app.datasets.repository import ProblemFilter
from app.datasets.schemas import DatasetOut, ProblemOut, ProblemPage
from app.datasets.service import DatasetService
from app.domain.cursor import NumberCursor
from app.domain.datasets.columns import Columns
from app.domain.datasets.formats import RecordFormat
from app.domain.datasets.problem import Severity
from app.domain.datasets.report import DatasetState
from app.domain.file_name import clean_filename, is_unsafe_filename
from app.domain.ids import new_id
from app.domain.storage_keys import dataset_key
from app.errors import (
    BadRequest,
    DatasetInUse,
    DatasetNotFound,
    DatasetNotInspected,
    DatasetUploading,
    DigestMismatch,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidDigest,
    InvalidMultipart,
    NoValidRows,
    RangeNotSatisfiable,
    RequestInProgress,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
)
from app.settings import CENTURY_SECONDS
from app.web.auth import CallerDep
from app.web.bodies.json_body import parsed
from app.web.bodies.multipart import receive
from app.web.bodies.upload_body import BODY, refuse_forms, store_body
from app.web.dependencies import PageDep, SessionDep, SettingsDep, StorageDep
from app.web.download import CONDITIONS, bytes_as, download
from app.web.idempotency import Created, IdempotentCreateDep
from app.web.page_schema import Page, page_of
from app.web.parameters import states_of
from app.web.problems import problems

router = APIRouter(prefix="/datasets", tags=["datasets"])

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "JSON Lines in UTF-8: one JSON object per line, all in the same format.",
                        },
                        "columns": {
                            "type": "string",
                            "description": 'Same as the query parameter: a JSON object, `{"prompt": "input"}`.',
                        },
                    },
                }
            }
        },
    }
}
ROWS = "application/jsonl"

FilenameQuery = Annotated[str, Query(description="The file's name: a label, and a hint about the file's format.")]
ExpiryQuery = Annotated[
    int | None,
    Query(ge=1, le=CENTURY_SECONDS, description="Seconds from creation to deletion. Defaults to the server's setting."),
]


FormatQuery = Annotated[
    RecordFormat | None,
    Query(description="The format of the rows. Rows in another format are reported as problems. Detected if omitted."),
]
ColumnsQuery = Annotated[
    str | None,
    Query(
        max_length=4000,
        description="Maps each field that is read to its key in the file, as a JSON object: "
        '`{"prompt": "input", "completion": "output"}`.',
    ),
]
MAX_PROBLEMS = 1000


class FormIn(BaseModel):
    """Describes the form fields besides the file."""

    columns: Json[Columns] | None = None


@router.post(
    "",
    status_code=201,
    summary="Upload a dataset",
    openapi_extra=FORM,
    responses=problems(InvalidMultipart, TooLarge, UnsupportedMediaType, StorageFull),
)
async def upload_dataset(
    request: Request,
    response: Response,
    caller: CallerDep,
    storage: StorageDep,
    settings: SettingsDep,
    expires_after_seconds: ExpiryQuery = None,
    format: FormatQuery = None,
    columns: ColumnsQuery = None,
) -> DatasetOut:
    """Upload a JSON Lines file as a form with the part `file` and, optionally, the part `columns`. After the answer
    201, no crash loses the dataset.

    The dataset is `inspecting` until a worker has read it, then `ready`, or `invalid` with a list of its problems.
    Formats: `messages`, `prompt` + `completion`, Alpaca, ShareGPT, `text`, preferences. A job may be created at once;
    it waits for the inspection.
    """
    id = new_id("file")
    asked = _read({} if columns is None else {"columns": columns})
    key, others = dataset_key(caller.project_id, id), ("columns",)
    form = await receive(request, storage, key, settings.max_upload_bytes, others=others, check=_read)
    upload = ReceivedFile(form.filename, form.stored, form.unsafe_filename, _read(form.values).columns or asked.columns)
    response.headers["Location"] = f"/datasets/{id}"
    return DatasetOut.of(await enter(request, caller.project_id, id, upload, expires_after_seconds, format))


@router.put(
    "",
    status_code=201,
    summary="Upload a dataset as the request body",
    openapi_extra={"requestBody": BODY["requestBody"] | {"required": False}},  # without one, the file is empty
    responses=problems(BadRequest, InvalidDigest, DigestMismatch, TooLarge, UnsupportedMediaType, StorageFull),
)
async def put_dataset(
    request: Request,
    response: Response,
    caller: CallerDep,
    storage: StorageDep,
    settings: SettingsDep,
    filename: FilenameQuery = "dataset",
    expires_after_seconds: ExpiryQuery = None,
    format: FormatQuery = None,
    columns: ColumnsQuery = None,
) -> DatasetOut:
    """Upload a file as with POST, but as the request body: `curl -T rows.jsonl "…/datasets?filename=rows.jsonl"`.

    Each request creates a new dataset.
    """
    id = new_id("file")
    refuse_forms(request)
    asked = _read({} if columns is None else {"columns": columns})
    key = dataset_key(caller.project_id, id)
    stored = await store_body(request, storage, key, settings.max_upload_bytes)
    upload = ReceivedFile(clean_filename(filename), stored, is_unsafe_filename(filename), asked.columns)
    response.headers["Location"] = f"/datasets/{id}"
    return DatasetOut.of(await enter(request, caller.project_id, id, upload, expires_after_seconds, format))


def _read(values: dict[str, str]) -> FormIn:
    return parsed(FormIn, values)


@router.get("", summary="List datasets", responses=problems(InvalidCursor))
def list_datasets(
    caller: CallerDep,
    session: SessionDep,
    page: PageDep,
    states: Annotated[tuple[DatasetState, ...], Depends(states_of(DatasetState, "datasets"))],
    sha256: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{64}$", description="Only datasets whose uploaded file has this digest.")
    ] = None,
) -> Page[DatasetOut]:
    """List the project's datasets, newest first."""
    datasets = DatasetService(session).list(caller.project_id, page.limit, page.after, states, sha256)
    return page_of(datasets, page.limit, DatasetOut.of)


@router.get("/{id}", summary="Get a dataset", responses=problems(DatasetNotFound))
def get_dataset(id: str, caller: CallerDep, session: SessionDep) -> DatasetOut:
    """Get a dataset's state, size and digest and, after its inspection, its format, statistics and problems."""
    return DatasetOut.of(DatasetService(session).get(caller.project_id, id))


@router.get("/{id}/problems", summary="List problems", responses=problems(DatasetNotFound, InvalidCursor))
def list_problems(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    code: Annotated[str | None, Query(max_length=100, description="Only problems with this code.")] = None,
    severity: Annotated[Severity | None, Query(description="Only errors, or only warnings.")] = None,
    each_row: Annotated[bool, Query(description="List every row's problems instead of grouping equal ones.")] = False,
    limit: Annotated[int, Query(ge=1, le=MAX_PROBLEMS, description="Maximum number of items per page.")] = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page.")] = None,
) -> ProblemPage:
    """List the problems that the inspection found. Equal problems are grouped, with their `count` and the first ten
    `lines`: errors before warnings, the most frequent first. `each_row` lists them one by one, ordered by line. The
    first thousand of each code are stored; all are counted."""
    after = NumberCursor.decode(cursor).number if cursor else 0
    dataset = DatasetService(session).get(caller.project_id, id)
    wanted = ProblemFilter(code, severity)
    found = DatasetService(session).problems(dataset, wanted, limit, after, each_row=each_row)
    more = NumberCursor(found[limit - 1].number).encode() if len(found) > limit else None
    counts = DatasetOut.of(dataset).problem_counts
    return ProblemPage(items=[ProblemOut.of(each) for each in found[:limit]], problem_counts=counts, next_cursor=more)


@router.post(
    "/{id}/clean",
    status_code=201,
    summary="Create a cleaned dataset",
    response_model=DatasetOut,
    responses=problems(DatasetNotFound, DatasetNotInspected, NoValidRows, RequestInProgress, IdempotencyKeyReused),
)
def clean_dataset(
    id: str,
    request: Request,
    caller: CallerDep,
    session: SessionDep,
    once: IdempotentCreateDep,
    drop_duplicates: Annotated[
        bool, Query(description="Also leave out rows whose texts are exactly those of an earlier row.")
    ] = False,
) -> Response:
    """Create a dataset from the rows without an error, as JSON Lines. Its `cleaned_from` names this dataset, which
    stays unchanged.

    A worker writes and inspects the new dataset, which is `inspecting` until then.
    """

    def make() -> Created:
        dataset = DatasetService(session).clean(caller.project_id, id, drop_duplicates=drop_duplicates)
        return Created(f"/datasets/{dataset.id}", DatasetOut.of(dataset))

    return once.answer(make, str(drop_duplicates).encode())


@router.head("/{id}/content", include_in_schema=False)
@router.get(
    "/{id}/content",
    summary="Download a dataset",
    response_class=Response,
    openapi_extra=CONDITIONS,
    responses=bytes_as(ROWS) | problems(DatasetNotFound, DatasetUploading, RangeNotSatisfiable),
)
def get_content(id: str, request: Request, caller: CallerDep, session: SessionDep, storage: StorageDep) -> Response:
    """Download the file as it was uploaded. Supports `Range`; `Repr-Digest` has the SHA-256 of the whole file."""
    dataset = DatasetService(session).get_whole(caller.project_id, id)
    return download(
        request,
        storage,
        key=dataset.storage_key,
        size=dataset.size,
        sha256=dataset.sha256,
        filename=dataset.filename,
        at=dataset.created_at,
        media_type=ROWS,
    )


@router.delete("/{id}", status_code=204, summary="Delete a dataset", responses=problems(DatasetNotFound, DatasetInUse))
def delete_dataset(id: str, caller: CallerDep, session: SessionDep) -> None:
    """Delete a dataset that no unfinished job uses. Adapters trained on it are kept. This cannot be undone."""
    DatasetService(session).delete(caller.project_id, id)

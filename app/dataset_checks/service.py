"""Creates dataset checks, and stores the results of the light workers."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from app.dataset_checks.repository import DatasetCheckRepository
from app.datasets.service import DatasetService
from app.db.tables import DatasetCheck
from app.domain.cursor import Cursor
from app.domain.dataset_checks.overlap import OverlapSpec
from app.domain.dataset_checks.preview import PreviewSpec, job_fields
from app.domain.dataset_checks.state import KEPT, DatasetCheckFailure, DatasetCheckKind, DatasetCheckState
from app.domain.datasets.report import DatasetState
from app.domain.ids import is_id, new_id
from app.errors import DatasetNotFound, FieldError, InvalidSpec, NotFound, OverlapNotFound, PreviewNotFound
from app.jobs.spec_validation import SpecCheck, field_errors
from app.outbox import enqueue_wakeup

NOT_FOUND: dict[DatasetCheckKind, type[NotFound]] = {
    DatasetCheckKind.preview: PreviewNotFound,
    DatasetCheckKind.overlap: OverlapNotFound,
}


class Answer(NamedTuple):
    """Holds the result of a dataset check."""

    totals: BaseModel
    shown: Sequence[BaseModel]


class DatasetCheckService:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.checks = DatasetCheckRepository(session)
        self.datasets = DatasetService(session)

    def preview(self, project_id: str, dataset_id: str, raw: object) -> DatasetCheck:
        """Accept a PreviewSpec as JSON, or raise InvalidSpec with every invalid field, as a job with it would."""
        self._lock(project_id, dataset_id)
        if not isinstance(raw, dict):
            raise InvalidSpec([FieldError("", "wrong_type", "The body is not a JSON object; send a PreviewSpec.")])
        errors: list[FieldError] = []
        spec = None
        try:
            spec = PreviewSpec.model_validate(raw)
        except ValidationError as error:
            errors += field_errors(error, PreviewSpec)
        known = {error.pointer.split("/")[1] for error in errors if error.pointer}
        try:
            fields = {name: value for name, value in raw.items() if name not in known}
            SpecCheck(self.session, project_id).check(job_fields(fields, dataset_id))
        except InvalidSpec as error:
            errors += _as_previews(error, known)
        if errors or spec is None:
            raise InvalidSpec(errors)
        return self._add(project_id, dataset_id, DatasetCheckKind.preview, spec)

    def overlap(self, project_id: str, dataset_id: str, raw: object) -> DatasetCheck:
        """Accept an OverlapSpec as JSON, or raise InvalidSpec."""
        self._lock(project_id, dataset_id)
        try:
            spec = OverlapSpec.model_validate(raw)
        except ValidationError as error:
            raise InvalidSpec(field_errors(error, OverlapSpec)) from error
        field, other = "/validation_dataset_id", spec.validation_dataset_id
        errors = [*self._unusable("", project_id, dataset_id), *self._unusable(field, project_id, other)]
        if errors:
            raise InvalidSpec(errors)
        return self._add(project_id, dataset_id, DatasetCheckKind.overlap, spec, other)

    def _lock(self, project_id: str, dataset_id: str) -> None:
        """Lock the dataset against deletion until its dataset check is entered."""
        dataset = self.datasets.get(project_id, dataset_id)
        if self.datasets.datasets.find_locked(project_id, dataset.id, shared=True) is None:
            raise DatasetNotFound(dataset_id)

    def _unusable(self, pointer: str, project_id: str, id: str) -> list[FieldError]:
        dataset = self.datasets.datasets.find_locked(project_id, id, shared=True)
        if dataset is None:
            message = f"Dataset {id!r:.80} not found; upload one with POST /datasets."
            return [FieldError(pointer, "dataset_not_found", message)]
        if dataset.state == DatasetState.invalid:
            message = f"Dataset {id} is invalid; GET /datasets/{id} lists its problems."
            return [FieldError(pointer, "dataset_invalid", message)]
        return []

    def _add(
        self, project_id: str, dataset_id: str, kind: DatasetCheckKind, spec: BaseModel, other: str | None = None
    ) -> DatasetCheck:
        check = DatasetCheck(
            id=new_id(kind.value),
            project_id=project_id,
            dataset_id=dataset_id,
            other_dataset_id=other,
            kind=kind,
            state=DatasetCheckState.pending,
            asked=spec.model_dump(mode="json"),
        )
        self.checks.add(check)
        self.checks.keep_newest(project_id, dataset_id, kind, KEPT)
        enqueue_wakeup(self.session, project_id, "light")
        return check

    def get(self, project_id: str, dataset_id: str, kind: DatasetCheckKind, id: str) -> DatasetCheck:
        self.datasets.get(project_id, dataset_id)
        check = self.checks.find(project_id, dataset_id, kind, id) if is_id(id, kind.value) else None
        if check is None:
            raise NOT_FOUND[kind](id)
        return check

    def list(
        self,
        project_id: str,
        dataset_id: str,
        kind: DatasetCheckKind,
        limit: int,
        after: Cursor | None,
        states: Sequence[DatasetCheckState] = (),
    ) -> Sequence[DatasetCheck]:
        self.datasets.get(project_id, dataset_id)
        return self.checks.list(project_id, dataset_id, kind, limit, after, states)

    def projects_with_work(self) -> Sequence[str]:
        """Return the ids of the projects with dataset checks that a light worker could claim."""
        return self.checks.projects_to_serve()

    def answer(self, check: DatasetCheck, answer: Answer) -> bool:
        """Store the result. Return False if the check was deleted or another worker has it."""
        totals = answer.totals.model_dump(mode="json")
        shown = [each.model_dump(mode="json") for each in answer.shown]
        return self.checks.conclude(check, DatasetCheckState.ready, totals=totals, shown=shown)

    def fail(self, check: DatasetCheck, code: DatasetCheckFailure, message: str) -> bool:
        values = {"failure_code": code, "failure_message": message.replace("\0", "\ufffd")}
        return self.checks.conclude(check, DatasetCheckState.failed, **values)


def _as_previews(error: InvalidSpec, known: set[str]) -> list[FieldError]:
    """Return the errors of a JobSpec, located at the fields of a preview's spec; without those that are already
    reported."""
    found = []
    for each in error.errors:
        name = each.pointer.rsplit("/", 1)[-1]
        if name not in known:
            found.append(each._replace(pointer="" if name in ("", "dataset_id") else f"/{name}"))
    return found

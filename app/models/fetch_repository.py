"""Stores the state of a model's fetch in the registry. Every write is fenced by the number of the attempt."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.db.tables import RegisteredModel
from app.domain.artifact import StoredFile
from app.domain.model import MAX_ATTEMPTS, ModelFailure, ModelState
from app.errors import StaleAttempt
from app.models.repository import ModelRepository

GAVE_UP = f"{MAX_ATTEMPTS} workers ended while fetching the model; see their logs, then add it again."


class Hold(NamedTuple):
    """Identifies one attempt to fetch a model."""

    model_id: str
    attempt: int
    lease_seconds: float


class FetchRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def claim(self, worker_id: str, lease_seconds: float, id: str | None = None) -> RegisteredModel | None:
        """Claim the oldest pending model, or the one with this id, and lease it to the caller."""
        self._fail_exhausted_models()
        waiting = select(RegisteredModel.id).where(_waits()).order_by(RegisteredModel.created_at).limit(1)
        if id is not None:
            waiting = waiting.where(RegisteredModel.id == id)
        statement = (
            update(RegisteredModel)
            .where(RegisteredModel.id == waiting.with_for_update(skip_locked=True).scalar_subquery())
            .values(
                state=ModelState.fetching,
                attempt=RegisteredModel.attempt + 1,
                leased_until=_lease_end(lease_seconds),
                worker_id=worker_id,
            )
            .returning(RegisteredModel)
        )
        return self.session.scalars(statement).one_or_none()

    def _fail_exhausted_models(self) -> None:
        self.session.execute(
            update(RegisteredModel)
            .where(_waits(), RegisteredModel.attempt >= MAX_ATTEMPTS)
            .values(
                state=ModelState.failed,
                failure_code=ModelFailure.too_many_attempts,
                failure_message=GAVE_UP,
                leased_until=None,
                finished_at=func.clock_timestamp(),
            )
        )

    def renew(self, hold: Hold, **values: Any) -> None:
        """Renew the lease, and store the given values."""
        self._update(hold, leased_until=_lease_end(hold.lease_seconds), **values)

    def give_back(self, hold: Hold) -> None:
        """Release the model so that another worker can start at once; this attempt does not count."""
        self._update(hold, state=ModelState.pending, leased_until=None, attempt=hold.attempt - 1)

    def conclude(self, hold: Hold, state: ModelState, **values: Any) -> None:
        self._update(hold, state=state, leased_until=None, finished_at=func.clock_timestamp(), **values)

    def name_files(self, hold: Hold, files: Sequence[StoredFile]) -> None:
        """Name the files in the model's row, which protects them from removal. They may have been removed earlier, so
        check for them after the commit."""
        ModelRepository(self.session).lock_files()
        self.renew(hold, files=[file.model_dump() for file in files])

    def _update(self, hold: Hold, **values: Any) -> None:
        """Raise StaleAttempt if the model was removed or another worker holds it."""
        statement = (
            update(RegisteredModel)
            .where(
                RegisteredModel.id == hold.model_id,
                RegisteredModel.attempt == hold.attempt,
                RegisteredModel.state == ModelState.fetching,
            )
            .values(**values)
            .returning(RegisteredModel.id)
        )
        if self.session.scalars(statement).one_or_none() is None:
            raise StaleAttempt


def _waits() -> Any:
    lapsed = (RegisteredModel.state == ModelState.fetching) & (RegisteredModel.leased_until < func.clock_timestamp())
    return or_(RegisteredModel.state == ModelState.pending, lapsed)


def _lease_end(seconds: float) -> Any:
    return func.clock_timestamp() + timedelta(seconds=seconds)

"""Stores which jobs OpenAI's clients have created, so that a retry after a lost answer creates no second job.

Their client sends no idempotency key. A retry has the same body with a retry count above 0; a new request with an
identical body has the count 0. Identical requests are serialized here until their transactions end.
"""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.tables import OpenAICreateResponse

KEPT = timedelta(minutes=30)


def find_created(session: Session, project_id: str, request_sha256: str, retries: int, waited: float) -> str | None:
    """Find the job that an equal request has created; None if this request must create it. `waited` is how many seconds
    ago the request arrived, which detects a request that its own retry has overtaken."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"create {request_sha256}", 0))))
    now = func.clock_timestamp()
    query = select(OpenAICreateResponse.job_id).where(
        OpenAICreateResponse.project_id == project_id,
        OpenAICreateResponse.request_sha256 == request_sha256,
        OpenAICreateResponse.created_at > now - KEPT,
    )
    if retries == 0:
        arrived = now - timedelta(seconds=waited)
        query = query.where(OpenAICreateResponse.sent_again, OpenAICreateResponse.created_at >= arrived)
    return session.scalars(query.order_by(OpenAICreateResponse.created_at.desc()).limit(1)).one_or_none()


def keep_created(session: Session, project_id: str, request_sha256: str, job_id: str, *, sent_again: bool) -> None:
    """Store the created job in the transaction that creates it."""
    row = OpenAICreateResponse(
        project_id=project_id, job_id=job_id, request_sha256=request_sha256, sent_again=sent_again
    )
    session.add(row)
    session.flush()


def forget_created(session: Session) -> None:
    session.execute(
        delete(OpenAICreateResponse).where(OpenAICreateResponse.created_at <= func.statement_timestamp() - KEPT)
    )

"""Jobs that clients of OpenAI's kind have created, so that a create whose answer was lost makes no second job.

Their client sends no key of its own with a create. It sends the same body again with a count of retries, and a new one,
though it reads alike, with the count 0. Requests that read alike take turns here, until their transactions end.
"""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.tables import OpenAICreateResponse

KEPT = timedelta(minutes=30)


def find_created(session: Session, project_id: str, request_sha256: str, retries: int, waited: float) -> str | None:
    """The job that an equal request has made; None where this one is to make it. `waited` is how many seconds ago it
    arrived: one that its own retry has overtaken is found by that."""
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
    """In the transaction that makes the job."""
    row = OpenAICreateResponse(
        project_id=project_id, job_id=job_id, request_sha256=request_sha256, sent_again=sent_again
    )
    session.add(row)
    session.flush()


def forget_created(session: Session) -> None:
    session.execute(
        delete(OpenAICreateResponse).where(OpenAICreateResponse.created_at <= func.statement_timestamp() - KEPT)
    )

"""Stores answers by idempotency key, in the transaction that creates what they describe, and deletes them a day
later."""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import KeptAnswer

KEPT = timedelta(hours=24)


def lock_key(session: Session, project_id: str, key: str) -> bool:
    """Lock the key. Return whether no other transaction uses it; the lock is released after others see the commit."""
    name = func.hashtextextended(f"idempotency {project_id} {key}", 0)
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(name))))


def find_answer(session: Session, project_id: str, key: str) -> KeptAnswer | None:
    query = select(KeptAnswer).where(
        KeptAnswer.project_id == project_id,
        KeptAnswer.key == key,
        KeptAnswer.created_at > func.clock_timestamp() - KEPT,
    )
    return session.scalars(query).one_or_none()


def keep_answer(
    session: Session, project_id: str, key: str, sha256: str, *, status: int, body: str, location: str
) -> None:
    """Store the answer. It replaces one that has expired but was not deleted yet."""
    values = {"request_sha256": sha256, "status": status, "body": body, "location": location}
    statement = insert(KeptAnswer).values(project_id=project_id, key=key, **values)
    replaced = values | {"created_at": func.clock_timestamp()}
    session.execute(statement.on_conflict_do_update(index_elements=["project_id", "key"], set_=replaced))


def forget_answers(session: Session) -> None:
    session.execute(delete(KeptAnswer).where(KeptAnswer.created_at <= func.statement_timestamp() - KEPT))

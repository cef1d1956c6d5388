"""Workers as they last showed themselves."""

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Worker
from app.domain.machine import Machine


class WorkerRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def seen(self, machine: Machine) -> None:
        row = {"id": machine.worker_id, "device": machine.device, "memory_gb": machine.memory_gb}
        self.session.execute(
            insert(Worker).values(row).on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now()})
        )

"""Defines the table of workers."""

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created_at_column


class Worker(Base):
    """Stores a worker process that has registered. `seen_at` is its last heartbeat."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str]
    device_name: Mapped[str | None]
    num_gpus: Mapped[int] = mapped_column(server_default=text("0"))
    """Counts the GPUs that it may use. It trains on the first."""
    memory_gb: Mapped[float]
    free_memory_gb: Mapped[float | None]
    """Is the device's free memory at its last heartbeat. Null if the driver does not report it."""
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    versions: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Maps Python, Tunewright and the training libraries to their versions."""
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Lists `training`, `light` or both."""
    integrations: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Lists the types of `app.domain.integration` that it serves."""
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    """Says that it was asked to stop and claims no more work."""
    disk_full: Mapped[bool] = mapped_column(server_default=text("false"))
    """Says that the attempts' disk has too little space. The worker claims no more work until that changes."""
    machine_fingerprint: Mapped[str]
    machine_facts: Mapped[dict[str, Any]]
    """Has the value of `app.domain.hardware.WorkerHardware`, as the fingerprint does."""
    started_at: Mapped[datetime] = created_at_column()
    seen_at: Mapped[datetime] = created_at_column()
    online_until: Mapped[datetime] = created_at_column()
    """Is the lease of its last heartbeat."""

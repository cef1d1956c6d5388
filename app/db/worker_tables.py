"""The table of workers."""

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, created


class Worker(Base):
    """A worker process that has registered; `seen_at` is its last heartbeat."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str]
    device_name: Mapped[str | None]
    num_gpus: Mapped[int] = mapped_column(server_default=text("0"))
    """That it may use; it trains on the first."""
    memory_gb: Mapped[float]
    free_memory_gb: Mapped[float | None]
    """Of the device at its last heartbeat; null where the driver does not say."""
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    versions: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Of Python, Tunewright and what it trains with, by name."""
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """`training`, `light` or both."""
    integrations: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Types of `app.domain.integration` that it serves."""
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    """Asked to stop: it takes no more work."""
    disk_full: Mapped[bool] = mapped_column(server_default=text("false"))
    """Too little disk space where attempts work: it takes no more work until there is more."""
    machine_fingerprint: Mapped[str]
    machine_facts: Mapped[dict[str, Any]]
    """As `app.domain.hardware.WorkerHardware` has both."""
    started_at: Mapped[datetime] = created()
    seen_at: Mapped[datetime] = created()
    online_until: Mapped[datetime] = created()
    """Lease of its last heartbeat."""

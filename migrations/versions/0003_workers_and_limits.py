"""Workers that register and give signs of life, limits of projects, and an order of the queue without ties."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    op.add_column("projects", sa.Column("max_running_jobs", sa.BigInteger(), nullable=True))
    op.create_check_constraint(op.f("ck_projects_max_running_jobs"), "projects", "max_running_jobs >= 0")
    json = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    for column in (
        sa.Column("device_name", sa.Text(), nullable=True),
        sa.Column("versions", json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "online_until", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
    ):
        op.add_column("workers", column)
    op.drop_index("ix_jobs_queue", table_name="jobs", postgresql_where=QUEUED)
    create_queue_index("created_at", "id")


def downgrade() -> None:
    op.drop_index("ix_jobs_queue", table_name="jobs", postgresql_where=QUEUED)
    create_queue_index("created_at")
    for name in ("online_until", "draining", "queues", "versions", "device_name"):
        op.drop_column("workers", name)
    op.drop_constraint(op.f("ck_projects_max_running_jobs"), "projects", type_="check")
    op.drop_column("projects", "max_running_jobs")


def create_queue_index(*age: str) -> None:
    urgency: sa.ColumnElement[Any] = sa.literal_column("priority DESC")
    op.create_index("ix_jobs_queue", "jobs", [urgency, *map(sa.column, age)], unique=False, postgresql_where=QUEUED)

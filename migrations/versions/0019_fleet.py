"""Labels of workers, jobs and projects; the GPUs that a job may name; GPUs and free memory of workers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

EMPTY = sa.text("'{}'")
JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())


def upgrade() -> None:
    op.add_column("projects", sa.Column("allowed_labels", JSON, server_default=EMPTY, nullable=False))
    op.add_column("jobs", sa.Column("gpu", postgresql.ARRAY(sa.Text()), server_default=EMPTY, nullable=False))
    op.add_column("jobs", sa.Column("labels", JSON, server_default=EMPTY, nullable=False))
    op.add_column("workers", sa.Column("num_gpus", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("workers", sa.Column("free_memory_gb", sa.Double(), nullable=True))
    op.add_column("workers", sa.Column("labels", JSON, server_default=EMPTY, nullable=False))


def downgrade() -> None:
    for name in ("labels", "free_memory_gb", "num_gpus"):
        op.drop_column("workers", name)
    op.drop_column("jobs", "labels")
    op.drop_column("jobs", "gpu")
    op.drop_column("projects", "allowed_labels")

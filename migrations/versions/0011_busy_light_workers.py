"""Datasets, uploads and studies name the light worker that holds them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("datasets", "uploads", "dataset_studies"):
        op.add_column(table, sa.Column("worker_id", sa.Text(), nullable=True))


def downgrade() -> None:
    for table in ("datasets", "uploads", "dataset_studies"):
        op.drop_column(table, "worker_id")

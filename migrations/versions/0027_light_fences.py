"""Inspections and studies are fenced by a number, as jobs are."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("datasets", "dataset_studies"):
        op.add_column(table, sa.Column("attempt", sa.BigInteger(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    for table in ("datasets", "dataset_studies"):
        op.drop_column(table, "attempt")

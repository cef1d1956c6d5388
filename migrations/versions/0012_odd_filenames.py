"""Datasets and uploads whose file name had something taken out of it."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("datasets", "uploads"):
        op.add_column(table, sa.Column("odd_filename", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    for table in ("datasets", "uploads"):
        op.drop_column(table, "odd_filename")

"""Keys of a file's rows that stand for others."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("datasets", "uploads"):
        op.add_column(table, sa.Column("columns", JSONB(none_as_null=True), nullable=True))


def downgrade() -> None:
    for table in ("datasets", "uploads"):
        op.drop_column(table, "columns")

"""How many of a dataset's rows are bad, and how many of them a job may leave out."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("bad_share", sa.Double(), nullable=True))
    op.add_column("dataset_uses", sa.Column("max_bad_share", sa.Double(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("dataset_uses", "max_bad_share")
    op.drop_column("datasets", "bad_share")

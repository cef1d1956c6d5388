"""Trackers that a worker passes curves on to."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kinds = sa.ARRAY(sa.Text)
    op.add_column("workers", sa.Column("integrations", kinds, server_default=sa.text("'{}'"), nullable=False))


def downgrade() -> None:
    op.drop_column("workers", "integrations")

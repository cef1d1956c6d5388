"""What a folder's model is said to be on the hub."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("hub_name", "hub_revision"):
        op.add_column("base_models", sa.Column(column, sa.Text(), nullable=True))


def downgrade() -> None:
    for column in ("hub_name", "hub_revision"):
        op.drop_column("base_models", column)

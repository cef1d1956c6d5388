"""An attempt keeps its claim's token, so that what its worker left on a disk can be told from what another wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("claim_token", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "claim_token")

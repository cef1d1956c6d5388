"""Keys that may write see webhooks' URLs as before: the scope `webhooks` is new."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    given = "ARRAY(SELECT unnest(scopes || '{webhooks}'::text[]) ORDER BY 1)"
    op.execute(sa.text(f"UPDATE api_keys SET scopes = {given} WHERE 'write' = ANY(scopes)"))


def downgrade() -> None:
    op.execute(sa.text("UPDATE api_keys SET scopes = array_remove(scopes, 'webhooks')"))

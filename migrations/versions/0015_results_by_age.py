"""Artifacts of a project by age, as OpenAI's face lists results among the files."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_artifacts_page", "artifacts", ["project_id", "created_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_artifacts_page", "artifacts")

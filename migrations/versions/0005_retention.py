"""What retention must know: when datasets expire, which attempts were searched, and when dead bytes are due."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_datasets_expiry", "datasets", ["expires_at"], postgresql_where=sa.text("expires_at IS NOT NULL")
    )
    op.create_index(op.f("ix_datasets_storage_key"), "datasets", ["storage_key"])
    op.create_index(op.f("ix_artifacts_storage_key"), "artifacts", ["storage_key"])
    op.add_column("attempts", sa.Column("collected_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_attempts_uncollected",
        "attempts",
        ["ended_at"],
        postgresql_where=sa.text("collected_at IS NULL AND ended_at IS NOT NULL"),
    )
    op.add_column(
        "dead_objects",
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
    )
    op.create_index(op.f("ix_dead_objects_due_at"), "dead_objects", ["due_at"])
    op.create_index(op.f("ix_dead_objects_storage_key"), "dead_objects", ["storage_key"])


def downgrade() -> None:
    op.drop_index(op.f("ix_dead_objects_storage_key"), table_name="dead_objects")
    op.drop_index(op.f("ix_dead_objects_due_at"), table_name="dead_objects")
    op.drop_column("dead_objects", "due_at")
    op.drop_index("ix_attempts_uncollected", table_name="attempts")
    op.drop_column("attempts", "collected_at")
    op.drop_index(op.f("ix_artifacts_storage_key"), table_name="artifacts")
    op.drop_index(op.f("ix_datasets_storage_key"), table_name="datasets")
    op.drop_index("ix_datasets_expiry", table_name="datasets")
    op.drop_column("datasets", "expires_at")

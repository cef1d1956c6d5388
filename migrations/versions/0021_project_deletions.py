"""Deletions of projects, which outlive the projects."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    counts = postgresql.JSONB(none_as_null=True)
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "project_deletions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("num_rows", counts, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("num_objects", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("num_live_streams", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("work_folders", counts, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", instant, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("finished_at", instant),
        sa.PrimaryKeyConstraint("id", name="pk_project_deletions"),
    )
    op.create_index(
        "ix_project_deletions_unfinished",
        "project_deletions",
        ["id"],
        postgresql_where=sa.text("finished_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("project_deletions")

"""Studies of datasets: previews and overlaps."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def dataset(column: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_dataset_studies_{column}_datasets")
    return sa.ForeignKeyConstraint([column], ["datasets.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    op.create_table(
        "dataset_studies",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("other_dataset_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("asked", JSONB(none_as_null=True), nullable=False),
        sa.Column("totals", JSONB(none_as_null=True), nullable=True),
        sa.Column("shown", JSONB(none_as_null=True), nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_dataset_studies_project_id_projects")),
        dataset("dataset_id"),
        dataset("other_dataset_id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_studies")),
    )
    op.create_index("ix_dataset_studies_page", "dataset_studies", ["dataset_id", "kind", "created_at", "id"])
    op.create_index(
        op.f("ix_dataset_studies_other_dataset_id"),
        "dataset_studies",
        ["other_dataset_id"],
        postgresql_where=sa.text("other_dataset_id IS NOT NULL"),
    )
    op.create_index(
        "ix_dataset_studies_pending",
        "dataset_studies",
        ["created_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )


def downgrade() -> None:
    op.drop_table("dataset_studies")

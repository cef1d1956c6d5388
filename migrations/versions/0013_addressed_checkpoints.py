"""Checkpoints with ids, jobs that start from them, names that are looked up, and creates that are sent again."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("id", sa.Text()))
    op.execute("UPDATE checkpoints SET id = 'ftckpt_' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 24)")
    op.alter_column("checkpoints", "id", nullable=False)
    op.create_index("uq_checkpoints_id", "checkpoints", ["id"], unique=True)
    op.add_column("checkpoints", sa.Column("base_model_revision", sa.Text()))
    op.add_column("jobs", sa.Column("start_id", sa.Text()))
    op.execute("UPDATE jobs SET start_id = spec ->> 'init_from' WHERE spec ->> 'init_from' IS NOT NULL")
    op.create_index("ix_jobs_start_id", "jobs", ["start_id"], postgresql_where=sa.text("start_id IS NOT NULL"))
    op.create_index("ix_jobs_id_end", "jobs", ["project_id", sa.text('"right"(id, 8)')])
    op.create_table(
        "answered_creates",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("sent_again", sa.Boolean(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_answered_creates_project_id_projects"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_answered_creates_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name="pk_answered_creates"),
    )
    op.create_index("ix_answered_creates_request_sha256", "answered_creates", ["request_sha256"])
    op.create_index("ix_answered_creates_created_at", "answered_creates", ["created_at"])


def downgrade() -> None:
    op.drop_table("answered_creates")
    op.drop_index("ix_jobs_id_end", "jobs")
    op.drop_index("ix_jobs_start_id", "jobs")
    op.drop_column("jobs", "start_id")
    op.drop_index("uq_checkpoints_id", "checkpoints")
    op.drop_column("checkpoints", "base_model_revision")
    op.drop_column("checkpoints", "id")

"""On which machines a checkpoint resumes exactly, how a job has come so far, and what a retry goes on from."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("machine_fingerprint", sa.Text))
    op.add_column("workers", sa.Column("machine_fingerprint", sa.Text))
    op.add_column("workers", sa.Column("machine_facts", JSONB))
    now = sa.func.clock_timestamp()
    op.add_column("jobs", sa.Column("queued_at", sa.DateTime(timezone=True), server_default=now, nullable=False))
    op.add_column("jobs", sa.Column("resume_from", sa.Text))
    op.add_column("jobs", sa.Column("resume_machine", sa.Text))
    empty = sa.text("'[]'")
    op.add_column("jobs", sa.Column("inexact_resumes", JSONB, server_default=empty, nullable=False))
    given = sa.text("resume_from IS NOT NULL")
    op.create_index("ix_jobs_resume_from", "jobs", ["resume_from"], postgresql_where=given)


def downgrade() -> None:
    op.drop_index("ix_jobs_resume_from", "jobs")
    for column in ("inexact_resumes", "resume_machine", "resume_from", "queued_at"):
        op.drop_column("jobs", column)
    for column in ("machine_facts", "machine_fingerprint"):
        op.drop_column("workers", column)
    op.drop_column("checkpoints", "machine_fingerprint")

"""Retries name the job they repeat, leases may outlast the held states, and answers are kept by idempotency key."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HELD = "state IN ('running', 'pausing', 'cancelling')"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("retry_of", sa.Text(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_retry_of_jobs"), "jobs", "jobs", ["retry_of"], ["id"], ondelete="SET NULL")
    op.create_index(op.f("ix_jobs_retry_of"), "jobs", ["retry_of"], postgresql_where=sa.text("retry_of IS NOT NULL"))
    op.drop_index("ix_jobs_lease", table_name="jobs")
    op.create_index("ix_jobs_lease", "jobs", ["lease_until"], postgresql_where=sa.text("lease_until IS NOT NULL"))
    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_idempotency_keys_project_id_projects")),
        sa.PrimaryKeyConstraint("project_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_jobs_lease", table_name="jobs")
    op.create_index("ix_jobs_lease", "jobs", ["lease_until"], postgresql_where=sa.text(HELD))
    op.drop_index(op.f("ix_jobs_retry_of"), table_name="jobs")
    op.drop_column("jobs", "retry_of")

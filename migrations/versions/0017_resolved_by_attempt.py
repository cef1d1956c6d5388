"""What was decided, by attempt.

`jobs.resolved` stays for a release, since servers of the one before select it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    json = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column("attempts", sa.Column("resolved", json, nullable=True))
    # What held for the job held for each attempt that came as far as to say where it starts.
    op.execute(
        "UPDATE attempts SET resolved = jobs.resolved FROM jobs "
        "WHERE jobs.id = attempts.job_id AND jobs.resolved IS NOT NULL AND attempts.start_step IS NOT NULL"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE jobs SET resolved = latest.resolved FROM (SELECT DISTINCT ON (job_id) job_id, resolved FROM attempts "
        "WHERE resolved IS NOT NULL ORDER BY job_id, number DESC) latest WHERE latest.job_id = jobs.id"
    )
    op.drop_column("attempts", "resolved")

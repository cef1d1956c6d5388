"""Buckets beside metric values, so that a long curve is quick to draw; built for the values that are there already."""

import sqlalchemy as sa
from alembic import op

from app.jobs.metrics.buckets import bucket_statements

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metric_buckets",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("width", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("num_values", sa.BigInteger(), nullable=False),
        sa.Column("min_value", sa.Double(), nullable=False),
        sa.Column("min_step", sa.BigInteger(), nullable=False),
        sa.Column("max_value", sa.Double(), nullable=False),
        sa.Column("max_step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_metric_buckets_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_metric_buckets_project_id_projects")),
        sa.PrimaryKeyConstraint("job_id", "attempt", "name", "width", "start", name=op.f("pk_metric_buckets")),
    )
    for statement in bucket_statements():
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("metric_buckets")

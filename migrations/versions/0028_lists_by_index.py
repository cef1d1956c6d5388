"""Indexes for what was found by reading a table from end to end: jobs by state and by model, work that waits for light
workers, and what a worker is at."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_jobs_state", "jobs", ["project_id", "state", "created_at", "id"], None),
    ("ix_jobs_base_model", "jobs", ["project_id", "base_model", "created_at", "id"], None),
    ("ix_jobs_whole_models", "jobs", ["project_id", "finished_at", "id"], "method = 'full'"),
    ("ix_jobs_finished", "jobs", ["finished_at"], "finished_at IS NOT NULL"),
    ("ix_datasets_inspecting", "datasets", ["created_at"], "state = 'inspecting'"),
    ("ix_datasets_worker", "datasets", ["worker_id"], "inspecting_until IS NOT NULL"),
    ("ix_adapters_base_model", "adapters", ["project_id", "base_model", "created_at", "id"], None),
    ("ix_dataset_studies_worker", "dataset_studies", ["worker_id"], "leased_until IS NOT NULL"),
    ("ix_uploads_joining", "uploads", ["ended_at"], "state = 'completed' AND joined_at IS NULL"),
    ("ix_uploads_worker", "uploads", ["worker_id"], "joining_until IS NOT NULL"),
)


def upgrade() -> None:
    for name, table, columns, where in INDEXES:
        op.create_index(name, table, columns, postgresql_where=sa.text(where) if where else None)


def downgrade() -> None:
    for name, table, _, _ in INDEXES:
        op.drop_index(name, table_name=table)

"""Uploads by parts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def instant(name: str, **options: object) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), **options)  # type: ignore[arg-type]


def created() -> sa.Column[object]:
    return instant("created_at", server_default=sa.text("clock_timestamp()"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=True),
        sa.Column("dataset_expires_after_seconds", sa.Double(), nullable=True),
        sa.Column("part_ids", ARRAY(sa.Text()), nullable=True),
        sa.Column("md5", sa.Text(), nullable=True),
        sa.Column("dataset_id", sa.Text(), nullable=True),
        instant("joining_until", nullable=True),
        instant("joined_at", nullable=True),
        created(),
        instant("expires_at", nullable=False),
        instant("ended_at", nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_uploads_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_page", "uploads", ["project_id", "created_at", "id"])
    op.create_index("ix_uploads_expiry", "uploads", ["expires_at"], postgresql_where=sa.text("state = 'pending'"))
    op.create_index("ix_uploads_ended", "uploads", ["ended_at"], postgresql_where=sa.text("ended_at IS NOT NULL"))
    op.create_table(
        "upload_parts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        created(),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_upload_parts_project_id_projects")),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_parts")),
    )
    op.create_index(op.f("ix_upload_parts_upload_id"), "upload_parts", ["upload_id"])
    op.create_index(op.f("ix_upload_parts_storage_key"), "upload_parts", ["storage_key"])


def downgrade() -> None:
    op.drop_table("upload_parts")
    op.drop_table("uploads")

"""What an inspection finds: how a file holds its rows, what they are known by, every problem; and cleaned datasets."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "container": sa.Text(),
    "compression": sa.Text(),
    "rows_key": sa.Text(),
    "rows_size": sa.BigInteger(),
    "rows_sha256": sa.Text(),
    "hashes_key": sa.Text(),
    "cleaned_from": sa.Text(),
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("datasets", sa.Column(name, kind, nullable=True))
    op.add_column(
        "datasets", sa.Column("drops_duplicates", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    # What was inspected before was JSON Lines, and nothing else.
    op.execute("UPDATE datasets SET container = 'jsonl', compression = 'none' WHERE state IN ('ready', 'invalid')")
    for name in ("rows_key", "hashes_key"):
        op.create_index(
            op.f(f"ix_datasets_{name}"), "datasets", [name], postgresql_where=sa.text(f"{name} IS NOT NULL")
        )
    op.create_table(
        "dataset_problems",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("pointer", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_dataset_problems_project_id_projects")),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_dataset_problems_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("dataset_id", "number", name=op.f("pk_dataset_problems")),
    )


def downgrade() -> None:
    op.drop_table("dataset_problems")
    for name in ("hashes_key", "rows_key"):
        op.drop_index(op.f(f"ix_datasets_{name}"), table_name="datasets")
    for name in ("drops_duplicates", *reversed(COLUMNS)):
        op.drop_column("datasets", name)

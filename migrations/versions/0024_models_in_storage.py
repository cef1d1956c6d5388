"""Models are fetched into storage by a light worker, whose progress is told. Those that are registered already are
fetched from where they lie."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

FACTS = {"architecture": "''", "num_parameters": "0", "max_seq_len": "0", "linear_modules": "'{}'", "config": "'{}'"}


def upgrade() -> None:
    zero, none = sa.text("0"), sa.text("false")
    for column in (
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("any_path", sa.Boolean(), server_default=none, nullable=False),
        sa.Column("wanted_revision", sa.Text()),
        sa.Column("files", postgresql.JSONB(none_as_null=True), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("num_bytes_done", sa.BigInteger(), server_default=zero, nullable=False),
        sa.Column("num_bytes", sa.BigInteger()),
        sa.Column("failure_code", sa.Text()),
        sa.Column("failure_message", sa.Text()),
        sa.Column("license", sa.Text()),
        sa.Column("license_text", sa.Text()),
        sa.Column("attempt", sa.BigInteger(), server_default=zero, nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True)),
        sa.Column("worker_id", sa.Text()),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    ):
        op.add_column("base_models", column)
    op.execute("UPDATE base_models SET any_path = true")
    op.execute("UPDATE base_models SET wanted_revision = revision WHERE source NOT LIKE '/%'")
    op.alter_column("base_models", "state", server_default=None)
    for name, default in FACTS.items():
        op.alter_column("base_models", name, server_default=sa.text(default))
    op.drop_index("uq_base_models_name", "base_models")
    op.create_index(
        "uq_base_models_name", "base_models", ["name"], unique=True, postgresql_where=sa.text("state <> 'removed'")
    )
    op.create_index(
        "ix_base_models_waiting",
        "base_models",
        ["created_at"],
        postgresql_where=sa.text("state IN ('pending', 'fetching')"),
    )


def downgrade() -> None:
    op.execute("DELETE FROM base_models WHERE state = 'removed' OR architecture = ''")
    op.drop_index("ix_base_models_waiting", "base_models")
    op.drop_index("uq_base_models_name", "base_models")
    op.create_index("uq_base_models_name", "base_models", ["name"], unique=True)
    for name in FACTS:
        op.alter_column("base_models", name, server_default=None)
    for name in (
        "state", "any_path", "wanted_revision", "files", "num_bytes_done", "num_bytes", "failure_code",
        "failure_message", "license", "license_text", "attempt", "leased_until", "worker_id", "finished_at",
    ):  # fmt: skip
        op.drop_column("base_models", name)

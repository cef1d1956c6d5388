"""One registry of base models for all projects, with a list of the projects that may use each.

A name that several projects had at one revision becomes one model. Where the revisions differ, the oldest model keeps
the name, and each other one gets its project's name at the end, in its unfinished jobs too.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

FINAL = "('succeeded', 'failed', 'cancelled')"


def upgrade() -> None:
    op.add_column(
        "base_models", sa.Column("for_all_projects", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.create_table(
        "model_permissions",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["base_models.id"], name=op.f("fk_model_permissions_model_id_base_models"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_model_permissions_project_id_projects")),
        sa.PrimaryKeyConstraint("model_id", "project_id", name=op.f("pk_model_permissions")),
    )
    merge(op.get_bind())
    op.drop_index("uq_base_models_project_id_name", table_name="base_models")
    op.drop_column("base_models", "project_id")
    op.create_index("uq_base_models_name", "base_models", ["name"], unique=True)


def merge(connection: sa.Connection) -> None:
    """Where there is one project alone, its models are for all that follow."""
    several = connection.scalar(sa.text("SELECT count(*) FROM projects")) > 1
    rows = connection.execute(
        sa.text(
            "SELECT m.id, m.name, m.revision, m.project_id, p.name AS project FROM base_models m "
            "JOIN projects p ON p.id = m.project_id ORDER BY m.created_at, m.id"
        )
    ).all()
    taken = {row.name for row in rows}
    kept: dict[str, list[sa.Row[tuple[str, ...]]]] = {}
    for row in rows:
        same = kept.setdefault(row.name, [])
        known = next((each for each in same if row.revision is not None and each.revision == row.revision), None)
        if known is None and same:
            rename(connection, row, free_name(row, taken))
        if known is None:
            same.append(row)
        else:
            connection.execute(sa.text("DELETE FROM base_models WHERE id = :id"), {"id": row.id})
        if several:
            allow(connection, (known or row).id, row.project_id)


def allow(connection: sa.Connection, model_id: str, project_id: str) -> None:
    connection.execute(sa.text("UPDATE base_models SET for_all_projects = false WHERE id = :id"), {"id": model_id})
    statement = "INSERT INTO model_permissions (model_id, project_id) VALUES (:model, :project) ON CONFLICT DO NOTHING"
    connection.execute(sa.text(statement), {"model": model_id, "project": project_id})


def free_name(row: sa.Row[tuple[str, ...]], taken: set[str]) -> str:
    wanted = f"{row.name}-{re.sub(r'[^A-Za-z0-9._-]', '-', row.project)}"[:180]
    name = next(
        name for number in range(1, 10_000) if (name := f"{wanted}-{number}" if number > 1 else wanted) not in taken
    )
    taken.add(name)
    return name


def rename(connection: sa.Connection, row: sa.Row[tuple[str, ...]], name: str) -> None:
    connection.execute(sa.text("UPDATE base_models SET name = :name WHERE id = :id"), {"name": name, "id": row.id})
    connection.execute(
        sa.text(
            "UPDATE jobs SET base_model = :name, spec = jsonb_set(spec, '{base_model}', to_jsonb(CAST(:name AS text))) "
            f"WHERE project_id = :project AND base_model = :old AND state NOT IN {FINAL}"
        ),
        {"name": name, "project": row.project_id, "old": row.name},
    )


def downgrade() -> None:
    """Each model goes to the projects that may use it; one for all, to every project."""
    op.add_column("base_models", sa.Column("project_id", sa.Text()))
    op.drop_index("uq_base_models_name", table_name="base_models")
    op.execute(
        "INSERT INTO base_models (id, name, project_id, source, revision, architecture, num_parameters, max_seq_len, "
        "linear_modules, config, created_at) SELECT 'model-' || substr(md5(m.id || p.id), 1, 24), m.name, p.id, "
        "m.source, m.revision, m.architecture, m.num_parameters, m.max_seq_len, m.linear_modules, m.config, "
        "m.created_at FROM base_models m JOIN projects p ON m.for_all_projects OR EXISTS (SELECT FROM "
        "model_permissions a WHERE a.model_id = m.id AND a.project_id = p.id)"
    )
    op.execute("DELETE FROM base_models WHERE project_id IS NULL")
    op.alter_column("base_models", "project_id", nullable=False)
    op.create_foreign_key(op.f("fk_base_models_project_id_projects"), "base_models", "projects", ["project_id"], ["id"])
    op.create_index("uq_base_models_project_id_name", "base_models", ["project_id", "name"], unique=True)
    op.drop_table("model_permissions")
    op.drop_column("base_models", "for_all_projects")

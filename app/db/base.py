"""Defines the declarative base: a naming convention, the types and columns of every table, and a list's page query."""

from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import BigInteger, DateTime, Double, ForeignKey, MetaData, Select, Text, func, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

from app.domain.cursor import Cursor

Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        str: Text,
        int: BigInteger,
        float: Double,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[dict[str, Any]]: JSONB(none_as_null=True),
    }


def created_at_column() -> Any:
    return mapped_column(server_default=func.clock_timestamp())


def project_id_column() -> Any:
    return mapped_column(ForeignKey("projects.id"))


def select_page(query: Query, table: Any, limit: int | None, after: Cursor | None) -> Query:
    """Select a page of a list, newest first: the rows below the cursor, one more than `limit` (all if it is None). The
    additional row shows that another page follows."""
    if after:
        query = query.where(tuple_(table.created_at, table.id) < tuple_(after.created_at, after.id))
    ordered = query.order_by(table.created_at.desc(), table.id.desc())
    return ordered.limit(None if limit is None else limit + 1)

"""Stores artifacts in the database: an adapter's files and archive, and the files of fully fine-tuned models."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from app.db.tables import Artifact, DeletedObject
from app.domain.artifact import ArtifactKind, StoredFile
from app.domain.ids import new_id


class ArtifactRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(
        self,
        project_id: str,
        job_id: str,
        attempt: int,
        kind: ArtifactKind,
        files: Sequence[StoredFile],
        adapter_id: str | None = None,
    ) -> None:
        rows = [
            {
                "id": new_id("art"),
                "project_id": project_id,
                "job_id": job_id,
                "attempt": attempt,
                "adapter_id": adapter_id,
                "kind": kind,
                "path": file.path,
                "storage_key": file.key,
                "size": file.size,
                "sha256": file.sha256,
            }
            for file in files
        ]
        if rows:
            self.session.execute(insert(Artifact), rows)

    def find(self, project_id: str, id: str) -> Artifact | None:
        query = select(Artifact).where(Artifact.project_id == project_id, Artifact.id == id)
        return self.session.scalars(query).one_or_none()

    def of_job(self, project_id: str, job_id: str) -> Sequence[Artifact]:
        """Return the job's artifacts, ordered by path."""
        return self._listed(Artifact.project_id == project_id, Artifact.job_id == job_id)

    def has_model(self, project_id: str, job_id: str) -> bool:
        """Return whether the job has made a fully fine-tuned model that still exists."""
        query = select(Artifact.id).where(
            Artifact.project_id == project_id, Artifact.job_id == job_id, Artifact.kind == ArtifactKind.model
        )
        return self.session.scalars(query.limit(1)).one_or_none() is not None

    def of_kinds(self, project_id: str, job_ids: Sequence[str], kinds: Sequence[ArtifactKind]) -> Sequence[Artifact]:
        return self._listed(Artifact.project_id == project_id, Artifact.job_id.in_(job_ids), Artifact.kind.in_(kinds))

    def of_adapter(self, project_id: str, adapter_id: str) -> Sequence[Artifact]:
        """Return the adapter's artifacts, ordered by path, including the archive."""
        return self._listed(Artifact.project_id == project_id, Artifact.adapter_id == adapter_id)

    def sizes(self, project_id: str, adapter_ids: Sequence[str]) -> dict[str, int]:
        """Return the total size of each adapter's files, without its archive."""
        query = (
            select(Artifact.adapter_id, func.sum(Artifact.size))
            .where(
                Artifact.project_id == project_id,
                Artifact.adapter_id.in_(adapter_ids),
                Artifact.kind == ArtifactKind.adapter,
            )
            .group_by(Artifact.adapter_id)
        )
        return {id: int(size) for id, size in self.session.execute(query) if id is not None}

    def mark_deleted(self, project_id: str, adapter_id: str) -> None:
        """Delete an adapter's artifacts; the collector deletes their stored bytes."""
        self._delete(Artifact.project_id == project_id, Artifact.adapter_id == adapter_id)

    def delete_model(self, project_id: str, job_id: str) -> None:
        """Delete a fully fine-tuned model's artifacts; the collector deletes their stored bytes."""
        self._delete(Artifact.project_id == project_id, Artifact.job_id == job_id, Artifact.kind == ArtifactKind.model)

    def _delete(self, *where: ColumnElement[bool]) -> None:
        statement = delete(Artifact).where(*where).returning(Artifact.project_id, Artifact.storage_key)
        rows = self.session.execute(statement).all()
        self.session.add_all(DeletedObject(project_id=project_id, storage_key=key) for project_id, key in rows)

    def _listed(self, *where: ColumnElement[bool]) -> Sequence[Artifact]:
        return self.session.scalars(select(Artifact).where(*where).order_by(Artifact.path)).all()

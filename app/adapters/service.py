"""Manages trained adapters and their files."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.adapters.repository import AdapterRepository
from app.artifacts.repository import ArtifactRepository
from app.db.tables import Adapter, Artifact
from app.domain.artifact import ArtifactKind, StoredFile
from app.domain.cursor import Cursor
from app.domain.ids import is_id, new_id
from app.errors import AdapterNotFound, AmbiguousName, ArtifactNotFound


class AdapterService:
    def __init__(self, session: Session) -> None:
        self.adapters = AdapterRepository(session)
        self.artifacts = ArtifactRepository(session)

    def publish(
        self,
        project_id: str,
        job_id: str,
        attempt: int,
        *,
        name: str,
        base_model: str,
        manifest: dict[str, Any],
        files: Sequence[StoredFile],
        archive: StoredFile,
    ) -> str:
        """Make stored files an adapter, in the transaction that ends its job, and return the adapter's id."""
        adapter = Adapter(
            id=new_id("adp"),
            project_id=project_id,
            job_id=job_id,
            name=name,
            base_model=base_model,
            manifest=manifest,
        )
        self.adapters.add(adapter)
        self.artifacts.add(project_id, job_id, attempt, ArtifactKind.adapter, files, adapter.id)
        self.artifacts.add(project_id, job_id, attempt, ArtifactKind.adapter_archive, [archive], adapter.id)
        return adapter.id

    def publish_files(
        self, project_id: str, job_id: str, attempt: int, *, kind: ArtifactKind, files: Sequence[StoredFile]
    ) -> None:
        """Make stored files artifacts of a job that belong to no adapter."""
        self.artifacts.add(project_id, job_id, attempt, kind, files)

    def get(self, project_id: str, id: str, *, lock: bool = False) -> Adapter:
        """Get an adapter by its id or its name. Raise AmbiguousName if two have the name: the user must choose one by
        its id."""
        if is_id(id, "adp"):
            found = self.adapters.find(project_id, id, lock=lock)
        else:
            named = self.adapters.named(project_id, id) if id.startswith("ft:") and id.isprintable() else ()
            if len(named) > 1:
                raise AmbiguousName(id, [adapter.job_id for adapter in named])
            found = self.adapters.find(project_id, named[0].id, lock=lock) if named else None
        if found is None:
            raise AdapterNotFound(id)
        return found

    def list(self, project_id: str, base_model: str | None, limit: int, after: Cursor | None) -> Sequence[Adapter]:
        return self.adapters.list(project_id, base_model, limit, after)

    def sizes(self, project_id: str, adapters: Sequence[Adapter]) -> dict[str, int]:
        """Return the total size of each adapter's files, by its id."""
        return self.artifacts.sizes(project_id, [adapter.id for adapter in adapters])

    def parts(self, project_id: str, id: str) -> Sequence[Artifact]:
        """Return an adapter's files, ordered by path, and its archive."""
        return self.artifacts.of_adapter(project_id, self.get(project_id, id).id)

    def get_file(self, project_id: str, id: str, path: str) -> Artifact:
        return self._part(project_id, id, ArtifactKind.adapter, path)

    def get_archive(self, project_id: str, id: str) -> Artifact:
        return self._part(project_id, id, ArtifactKind.adapter_archive)

    def delete(self, project_id: str, id: str) -> None:
        """Delete an adapter with its artifacts; the job that created it is kept."""
        adapter = self.get(project_id, id, lock=True)
        self.artifacts.mark_deleted(project_id, adapter.id)
        self.adapters.delete(adapter)

    def delete_model(self, project_id: str, job_id: str) -> None:
        """Delete the files of the fully fine-tuned model that a job has created; the job is kept."""
        self.artifacts.delete_model(project_id, job_id)

    def _part(self, project_id: str, id: str, kind: ArtifactKind, path: str | None = None) -> Artifact:
        for artifact in self.parts(project_id, id):
            if artifact.kind == kind and path in (None, artifact.path):
                return artifact
        raise ArtifactNotFound(path or kind)

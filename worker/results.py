"""What an attempt stores, under keys of its own."""

from pathlib import Path

from app.domain import place
from app.domain.artifact import ADAPTER_ARCHIVE, StoredFile
from app.jobs.queue import Claim
from app.storage import Storage
from worker.archive import write_archive
from worker.fence import Fence
from worker.step_metrics import STEP_METRICS, write_step_metrics


class Results:
    def __init__(self, storage: Storage, fence: Fence, claim: Claim, folder: Path) -> None:
        self._storage, self._fence, self._claim, self._folder = storage, fence, claim, folder
        self._place = place.attempt_folder(claim.project_id, claim.job_id, claim.attempt)

    def folder(self, folder: Path, under: str) -> list[StoredFile]:
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return [self._stored(f"{under}/{name}", folder / name, name) for name in names]

    def file(self, path: Path) -> StoredFile:
        return self._stored(path.name, path, path.name)

    def archive(self, result: Path) -> StoredFile:
        path = self._folder / ADAPTER_ARCHIVE
        write_archive(result, path)
        return self.file(path)

    def step_metrics(self) -> StoredFile:
        path = self._folder / STEP_METRICS
        write_step_metrics(path, self._fence, self._claim)
        return self.file(path)

    def _stored(self, key: str, path: Path, name: str) -> StoredFile:
        return self._storage.put_file(f"{self._place}/{key}", path, name)

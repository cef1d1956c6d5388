"""Uploads an attempt's outputs under storage keys that no other attempt uses."""

import json
from pathlib import Path
from typing import Any, Final

from app.domain import storage_keys
from app.domain.artifact import ADAPTER_ARCHIVE, StoredFile
from app.jobs.queue.repository import Claim
from app.storage import Storage
from worker.attempt.archive import ADAPTER_FILES, write_archive
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.metrics.step_metrics import STEP_METRICS, write_step_metrics
from worker.processes.child_files import ChildFiles
from worker.processes.child_messages import ProtocolBroken

MAX_MANIFEST_BYTES: Final = 2**24


class OutputUploader:
    """Stores files of an attempt. `folder` is the attempt's folder; the training process writes only to a folder inside
    it."""

    def __init__(self, storage: Storage, fence: FencedWriter, claim: Claim, folder: Path) -> None:
        self._storage, self._fence, self._claim, self._folder = storage, fence, claim, folder
        self._place = storage_keys.attempt_folder(claim.project_id, claim.job_id, claim.attempt)
        self.written = ChildFiles(folder / "training")

    def make_folder(self) -> Path:
        """Create the folder that the training process writes to."""
        self.written.root.mkdir(exist_ok=True)
        return self.written.root

    def upload_folder(self, folder: Path, under: str) -> list[StoredFile]:
        return [self._upload_written(f"{under}/{name}", folder / name, name) for name in self.written.names(folder)]

    def upload_checkpoint(self, folder: Path, step: int) -> list[StoredFile]:
        """Store a checkpoint's files, with the adapter's files as one archive if it has an adapter."""
        names, under = self.written.names(folder), f"checkpoints/{step}"
        if not {*ADAPTER_FILES} <= {*names}:
            return self.upload_folder(folder, under)
        path = self._folder / f"checkpoint-{step}.tar"
        try:
            write_archive(path, self.written, folder, ADAPTER_FILES)
            adapter = self._storage.put_file(f"{self._place}/{under}/{ADAPTER_ARCHIVE}", path, ADAPTER_ARCHIVE)
        finally:
            path.unlink(missing_ok=True)
        others = [name for name in names if name not in (*ADAPTER_FILES, ADAPTER_ARCHIVE)]
        return [adapter, *(self._upload_written(f"{under}/{name}", folder / name, name) for name in others)]

    def read_manifest(self, result: Path) -> dict[str, Any]:
        with self.written.opened(result / "manifest.json") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        try:
            manifest = json.loads(content) if len(content) <= MAX_MANIFEST_BYTES else None
        except ValueError:
            manifest = None
        if not isinstance(manifest, dict):
            raise ProtocolBroken("the manifest of its result is unreadable")
        return manifest

    def upload_archive(self, result: Path) -> StoredFile | None:
        """Store the result as one archive; return None if the result is not an adapter."""
        if not self.written.exists(result / "adapter_config.json"):
            return None
        path = self._folder / ADAPTER_ARCHIVE
        write_archive(path, self.written, result, self.written.names(result))
        return self.upload_file(path)

    def upload_file(self, path: Path) -> StoredFile:
        """Store a file that the worker itself wrote."""
        return self._storage.put_file(f"{self._place}/{path.name}", path, path.name)

    def upload_step_metrics(self) -> StoredFile:
        path = self._folder / STEP_METRICS
        write_step_metrics(path, self._fence, self._claim)
        return self.upload_file(path)

    def _upload_written(self, key: str, path: Path, name: str) -> StoredFile:
        with self.written.opened(path) as file:
            return self._storage.put_open(f"{self._place}/{key}", file, name)

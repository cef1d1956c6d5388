"""Deletes what is no longer kept, and its bytes. The dispatcher runs it; `docs/retention.md` describes it for users.

Bytes are deleted in one way only: a transaction that releases them, or finds that nothing names them, enters their keys
in `deleted_objects`; `collect` removes the bytes and then the row, after checking once more that no row names them.
After a crash anywhere a step is repeated, and removing an object that no longer exists is not an error.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog

from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import DeletedObject
from app.domain.ids import is_id
from app.domain.model import ModelState
from app.domain.storage_keys import (
    MODELS_FOLDER,
    attempt_folder,
    datasets_folder,
    job_folder,
    jobs_folder,
    project_folder,
    uploads_folder,
)
from app.jobs.checkpoints.repository import CheckpointRepository
from app.models.repository import ModelRepository
from app.retention.repository import RetentionRepository, Visit
from app.set_aside import STRICT, SetAside, take_all
from app.settings import Settings
from app.storage import FAILURES, Storage, StoredObject
from app.uploads.service import UploadService
from app.webhooks.repository import WebhookRepository

log = structlog.get_logger()

BATCH = 100
IDS_PER_QUERY = 1000
SEARCH_SECONDS = 3600.0
GRACE = timedelta(hours=1)
"""Sets how much later, by the database's clock, an object is removed that a search finds unnamed. The store's clock may
be wrong, and S3 dates a large object by the start of its upload, while its row is written after the end."""


class Collector:
    def __init__(self, settings: Settings, sessions: Sessions, storage: Storage, aside: SetAside = STRICT) -> None:
        self.settings, self.sessions, self.storage = settings, sessions, storage
        self.aside = aside
        self.search_at = time.monotonic()

    def collect(self) -> None:
        """Remove deleted objects from storage."""
        while self._collect_batch() == BATCH:
            continue

    def _collect_batch(self) -> int:
        """Return how many are settled: fewer than a batch if there are no more, or if one cannot be deleted now."""
        with transaction(self.sessions, "collect") as session:
            retention = RetentionRepository(session)
            dead = retention.take_due(BATCH, self.aside.ids("deleted_objects"))
            is_named = make_name_check(retention, dead)
            settled = []
            for each in dead:
                with self.aside.guard("deleted_objects", each.id):
                    try:
                        if not is_named(each.storage_key):
                            self.storage.delete(each.storage_key)
                    except FAILURES as error:
                        log.warning(
                            "could not delete an object; retrying later", key=each.storage_key, error=str(error)[:300]
                        )
                        retention.postpone(each.id)
                        break
                    settled.append(each.id)
            retention.forget(settled)
            return len(settled)

    def retain(self) -> None:
        """Delete what has expired, find what attempts left behind, and periodically search the whole store."""
        take_all(
            expire_datasets=partial(in_batches, self._expire_datasets),
            expire_uploads=partial(in_batches, self._expire_uploads),
            forget_uploads=self._forget_uploads,
            let_go_of_checkpoints=partial(in_batches, self._delete_old_checkpoints),
            forget_deliveries=partial(in_batches, self._forget_deliveries),
            collect_models=self._collect_models,
            visit_attempts=self._visit_attempts,
            search=self._search_if_due,
        )

    def _search_if_due(self) -> None:
        if time.monotonic() >= self.search_at:
            self.search_at = time.monotonic() + SEARCH_SECONDS
            self.search()

    def _expire_datasets(self) -> int:
        with transaction(self.sessions, "expire_datasets") as session:
            expired = DatasetService(session).delete_expired(BATCH, self.aside)
        if expired:
            log.info("deleted expired datasets", ids=expired)
        return len(expired)

    def _expire_uploads(self) -> int:
        with transaction(self.sessions, "expire_uploads") as session:
            expired = UploadService(session).expire(BATCH, self.aside)
        if expired:
            log.info("expired pending uploads", ids=expired)
        return len(expired)

    def _forget_uploads(self) -> None:
        with transaction(self.sessions, "expire_uploads") as session:
            UploadService(session).forget_ended()

    def _delete_old_checkpoints(self) -> int:
        with transaction(self.sessions, "let_go_of_checkpoints") as session:
            stored = CheckpointRepository(session)
            kept = self.aside.ids("checkpoints")
            outlived = stored.outlived(self.settings.checkpoint_ttl_seconds, BATCH, kept)
            deleted = []
            for checkpoint in outlived:
                with self.aside.guard("checkpoints", checkpoint.id, session):
                    stored.mark_deleted([checkpoint])
                    session.flush()
                    deleted.append(checkpoint.job_id)
        if deleted:
            log.info("deleted old checkpoints", num_checkpoints=len(deleted), jobs=sorted(set(deleted)))
        return len(deleted)

    def _forget_deliveries(self) -> int:
        with transaction(self.sessions, "forget_deliveries") as session:
            return WebhookRepository(session).forget(BATCH)

    def _collect_models(self) -> None:
        """Remove the files of removed models, and of those that failed long ago, unless another model names them. Under
        the lock no other model can start to name one."""
        with transaction(self.sessions, "collect_models") as session:
            models = ModelRepository(session)
            removed = models.removed(self.settings.orphan_ttl_seconds, self.aside.ids("base_models"))
            if not removed:
                return
            models.lock_files()
            named = models.named_files(but=[model.id for model in removed])
            for model in removed:
                with self.aside.guard("base_models", model.id, session):
                    keys = {file["key"] for file in model.files}
                    self.storage.delete(*sorted(keys - named))
                    if model.state == ModelState.removed:
                        models.delete(model)
                    else:
                        model.files = []
        log.info("deleted the files of models", models=[model.name for model in removed])

    def _search_models(self, before: datetime) -> None:
        """Remove files without a model: the process that was to name them died, or a row was lost."""
        self.storage.tidy(MODELS_FOLDER, before)
        old = [each.key for some in self.storage.list(MODELS_FOLDER) for each in some if each.modified_at < before]
        if not old:
            return
        with transaction(self.sessions, "search_models") as session:
            models = ModelRepository(session)
            models.lock_files()
            self.storage.delete(*sorted(set(old) - models.named_files()))

    def _visit_attempts(self) -> None:
        with transaction(self.sessions, "find_ended_attempts") as session:
            visited = self.aside.ids("attempts")
            over = RetentionRepository(session).attempts_over(self.settings.orphan_ttl_seconds, BATCH, visited)
        for visit in over:
            with self.aside.guard("attempts", visit):
                self._visit(visit)

    def _visit(self, visit: Visit) -> None:
        """Mark deleted what an attempt stored and no row names. No row will, because the attempt is over."""
        objects = [each for some in self.storage.list(attempt_folder(*visit)) for each in some]
        with transaction(self.sessions, "visit_attempt") as session:
            retention = RetentionRepository(session)
            if not retention.mark_visited(visit):
                return
            orphans = find_unnamed(retention, objects)
            age = timedelta(seconds=self.settings.orphan_ttl_seconds)
            retention.mark_deleted(visit.project_id, [(each.key, each.modified_at + age) for each in orphans])
        if orphans:
            log.info(
                "found orphaned objects of an attempt", job=visit.job_id, attempt=visit.number, num_objects=len(orphans)
            )

    def search(self) -> None:
        """Find what only a search of storage shows: uploads without a row, leftovers of deleted jobs, half-written
        files, and what was stored late for a recently deleted project. The folders of projects that this database does
        not know stay untouched."""
        with transaction(self.sessions, "search") as session:
            retention = RetentionRepository(session)
            project_ids = retention.project_ids()
            before = retention.now() - timedelta(seconds=self.settings.orphan_ttl_seconds)
            deleted = retention.recently_deleted(self.settings.orphan_ttl_seconds + SEARCH_SECONDS)
        take_all(
            search_deleted=partial(self._search_deleted, deleted, before),
            search_models=partial(self._search_models, before),
            search_projects=partial(self._search_projects, project_ids, before),
        )

    def _search_deleted(self, project_ids: Sequence[str], before: datetime) -> None:
        for project_id in project_ids:
            for objects in self.storage.list(project_folder(project_id)):
                self.storage.delete(*(each.key for each in objects))
            self.storage.tidy(project_folder(project_id), before)

    def _search_projects(self, project_ids: Sequence[str], before: datetime) -> None:
        for project_id in set(project_ids) - set(self.aside.ids("projects")):
            with self.aside.guard("projects", project_id):
                self._search_project(project_id, before)

    def _search_project(self, project_id: str, before: datetime) -> None:
        for folder in (datasets_folder(project_id), uploads_folder(project_id)):
            for objects in self.storage.list(folder):
                self._mark_orphans(project_id, objects, before)
        for job_id in self._unknown_jobs(project_id):
            for objects in self.storage.list(job_folder(project_id, job_id)):
                self._mark_orphans(project_id, objects, before)
        if tidied := self.storage.tidy(project_id, before):
            log.info("deleted incomplete files and empty folders", project=project_id, count=tidied)

    def _unknown_jobs(self, project_id: str) -> Sequence[str]:
        found = [name for name in self.storage.folders(jobs_folder(project_id)) if is_id(name, "ftjob")]
        known: set[str] = set()
        with transaction(self.sessions, "unknown_jobs") as session:
            retention = RetentionRepository(session)
            for start in range(0, len(found), IDS_PER_QUERY):
                known |= retention.known_jobs(project_id, found[start : start + IDS_PER_QUERY])
        return [id for id in found if id not in known]

    def _mark_orphans(self, project_id: str, objects: Sequence[StoredObject], before: datetime) -> None:
        old = [each for each in objects if each.modified_at < before]
        if not old:
            return
        with transaction(self.sessions, "suspect") as session:
            retention = RetentionRepository(session)
            orphans = find_unnamed(retention, old)
            due_at = retention.now() + GRACE
            retention.mark_deleted(project_id, [(each.key, due_at) for each in orphans])
        if orphans:
            log.info("found orphaned objects", project=project_id, num_objects=len(orphans), first=orphans[0].key)


def find_unnamed(retention: RetentionRepository, objects: Sequence[StoredObject]) -> Sequence[StoredObject]:
    """Return the objects that no row names, and that are not already marked deleted."""
    keys = [each.key for each in objects]
    kept = retention.named(keys) | retention.dead(keys)
    return [each for each in objects if each.key not in kept]


def make_name_check(retention: RetentionRepository, dead: Sequence[DeletedObject]) -> Callable[[str], bool]:
    """Return a function that says whether a row names a key. It queries once for all keys, or one by one if a faulty
    row makes the query for all fail."""
    try:
        return retention.named([each.storage_key for each in dead]).__contains__
    except (KeyError, TypeError):
        return lambda key: key in retention.named([key])


def in_batches(step: Callable[[], int]) -> None:
    while step() == BATCH:
        continue

"""Deletes projects, step by step. The dispatcher runs it; `docs/retention.md` describes it for users.

Each step is small and can be repeated: if the process is killed anywhere, the next turn continues. First all work of
the project must stop; then its bytes, live metrics and rows are deleted, the project's row last; then each online
worker confirms that its disk holds nothing of it. `project_deletions` counts what was erased.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from redis import Redis
from sqlalchemy import Table
from sqlalchemy.orm import Session

from app import live_metrics
from app.db.project_tables import ProjectDeletion
from app.db.session import Sessions, transaction
from app.domain.project import DeletionState
from app.domain.storage_keys import project_folder
from app.errors import JobAlreadyCancelling, JobFinished, JobNotFound
from app.jobs.service import JobService
from app.projects.repository import ProjectRepository, tables_of_projects
from app.retention.repository import RetentionRepository
from app.set_aside import STRICT, SetAside
from app.storage import Storage

log = structlog.get_logger()

JOBS_PER_TURN = 100
ROWS_PER_STEP = 5_000


class ProjectEraser:
    def __init__(self, sessions: Sessions, storage: Storage, redis: Redis, aside: SetAside = STRICT) -> None:
        self.sessions, self.storage, self.redis = sessions, storage, redis
        self.aside = aside

    def erase(self) -> None:
        """Advance every deletion as far as possible now."""
        with transaction(self.sessions, "find_deletions") as session:
            under_way = ProjectRepository(session).deletions_under_way()
        left_out = self.aside.ids("project_deletions")
        for deletion in under_way:
            if deletion.id not in left_out:
                with self.aside.guard("project_deletions", deletion.id):
                    self._advance(deletion.id, DeletionState(deletion.state))

    def _advance(self, id: str, state: DeletionState) -> None:
        if state is DeletionState.stopping:
            if not self._has_stopped(id):
                return
            self._take_inventory(id)
            state = DeletionState.erasing
        if state is DeletionState.erasing:
            self._erase_objects(id)
            # While the jobs' rows still name them.
            live_metrics.delete(self.redis, self._job_ids(id))
            self._erase_rows(id)
        self._finish(id)

    def _has_stopped(self, id: str) -> bool:
        """Cancel unfinished jobs; return whether all work of the project has stopped."""
        with transaction(self.sessions, "find_project_work") as session:
            ProjectRepository(session).revoke_keys(id)
            job_ids = RetentionRepository(session).jobs_to_cancel(id, JOBS_PER_TURN)
        for job_id in job_ids:
            with (
                suppress(JobFinished, JobAlreadyCancelling, JobNotFound),
                transaction(self.sessions, "cancel_project_job") as session,
            ):
                JobService(session).cancel(id, job_id)
        with transaction(self.sessions, "find_project_leases") as session:
            return not RetentionRepository(session).is_at_work(id)

    def _take_inventory(self, id: str) -> None:
        """Count what the database does not count, while all of it exists."""
        found = [each.size for objects in self.storage.list(project_folder(id)) for each in objects]
        num_streams = live_metrics.count(self.redis, self._job_ids(id))
        with transaction(self.sessions, "take_inventory") as session:
            deletion = _locked(session, id, DeletionState.stopping)
            if deletion:
                deletion.num_objects, deletion.num_bytes = len(found), sum(found)
                deletion.num_live_streams = num_streams
                deletion.state = DeletionState.erasing
                log.info("erasing a project", project=id, num_objects=len(found))

    def _job_ids(self, id: str) -> Sequence[str]:
        with transaction(self.sessions, "find_project_jobs") as session:
            return RetentionRepository(session).job_ids(id)

    def _erase_objects(self, id: str) -> None:
        for objects in self.storage.list(project_folder(id)):
            self.storage.delete(*(each.key for each in objects))
        # Also half-written files of any age: their writers can no longer enter them.
        self.storage.tidy(project_folder(id), datetime.now(UTC) + timedelta(days=1))

    def _erase_rows(self, id: str) -> None:
        for table in tables_of_projects():
            while self._erase_batch(id, table) == ROWS_PER_STEP:
                continue
        with transaction(self.sessions, "delete_project") as session:
            deletion = _locked(session, id, DeletionState.erasing)
            if deletion:
                projects = ProjectRepository(session)
                # Under this lock no new row can name the project.
                projects.find(deletion.name, lock=True)
                for table in tables_of_projects():
                    _count(deletion, table.name, projects.delete_rows(table, id))
                projects.delete(id)
                deletion.state = DeletionState.clearing_workers

    def _erase_batch(self, id: str, table: Table) -> int:
        with transaction(self.sessions, "erase_rows") as session:
            deletion = _locked(session, id, DeletionState.erasing)
            if deletion is None:
                return 0
            num_rows = ProjectRepository(session).delete_rows(table, id, ROWS_PER_STEP)
            _count(deletion, table.name, num_rows)
            return num_rows

    def _finish(self, id: str) -> None:
        """Finish once every online worker has checked its disk, and storage holds nothing."""
        self._erase_objects(id)
        is_empty = not any(self.storage.list(project_folder(id)))
        with transaction(self.sessions, "finish_deletion") as session:
            deletion = _locked(session, id, DeletionState.clearing_workers)
            waiting = deletion and RetentionRepository(session).workers_online() - deletion.work_folders.keys()
            if deletion and is_empty and not waiting:
                ProjectRepository(session).finish_deletion(deletion)
                log.info("erased a project", project=id, num_rows=deletion.num_rows)


def _locked(session: Session, id: str, state: DeletionState) -> ProjectDeletion | None:
    """Return the deletion, unless another dispatcher has advanced it further."""
    deletion = ProjectRepository(session).find_deletion(id, lock=True)
    return deletion if deletion and deletion.state == state else None


def _count(deletion: ProjectDeletion, table: str, num_rows: int) -> None:
    if num_rows:
        deletion.num_rows = deletion.num_rows | {table: deletion.num_rows.get(table, 0) + num_rows}

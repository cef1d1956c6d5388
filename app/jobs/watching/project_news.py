"""Reads which jobs of a project were created, changed or deleted."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection

from app.domain.jobs.state import FINAL, JobState
from app.jobs.schemas import JobOut
from app.jobs.shown import list_shown_by_id
from app.jobs.watching.repository import JobVersion, find_deleted, find_versions_of_project

log = structlog.get_logger()
MOST_LISTED: Final = 1_000
MOST_CHANGED: Final = 500
"""Limits the changed jobs of one look; the others follow in the next one."""


class Known(NamedTuple):
    """Holds what a watcher knows of a project."""

    versions: Mapping[str, JobVersion]
    deleted: frozenset[str]
    wanted: frozenset[str] | None
    """Names the jobs that a new stream lists; None before the first look."""


class ListedJob(NamedTuple):
    id: str
    created_at: datetime
    is_final: bool
    data: str
    is_news: bool
    """Says that it has changed, and is not merely among the newest for the first time."""


class ProjectNews(NamedTuple):
    known: Known
    jobs: Sequence[ListedJob]
    """Lists jobs that have changed, or are wanted now, the oldest first."""
    deleted: Sequence[str]


def find_project_news(connection: Connection, project_id: str, known: Known) -> ProjectNews:
    """Find what differs from what is known. If nothing does, these are two statements."""
    current = find_versions_of_project(connection, project_id)
    deleted = find_deleted(connection, project_id)
    unfinished = [id for id, each in current.items() if not each.is_final]
    wanted = frozenset(unfinished[:MOST_LISTED])
    is_first = known.wanted is None
    changed = [] if is_first else _find_changed(known.versions, current, deleted)
    read = dict.fromkeys([*changed[:MOST_CHANGED], *sorted(wanted - (known.wanted or frozenset()))])
    jobs = _read_jobs(connection, project_id, list(read), frozenset(changed))
    left = {id: known.versions.get(id) for id in changed[MOST_CHANGED:]}
    versions = {id: left.get(id, each) for id, each in current.items()} | left
    known_now = Known({id: each for id, each in versions.items() if each is not None}, deleted, wanted)
    return ProjectNews(known_now, jobs, () if is_first else sorted(deleted - known.deleted))


def _find_changed(
    before: Mapping[str, JobVersion], now: Mapping[str, JobVersion], deleted: frozenset[str]
) -> list[str]:
    """Return the jobs that are new or differ, and those that are no longer among the unfinished ones."""
    changed = [id for id, each in now.items() if before.get(id) != each]
    ended = [id for id, each in before.items() if id not in now and not each.is_final and id not in deleted]
    return changed[::-1] + ended


def _read_jobs(
    connection: Connection, project_id: str, ids: Sequence[str], changed: frozenset[str]
) -> Sequence[ListedJob]:
    found = []
    for each in list_shown_by_id(connection, project_id, ids) if ids else ():
        try:
            job = JobOut.of(each.job, each.details)
        except ValidationError:  # one job must not end the streams of all
            log.exception("job cannot be shown", job_id=each.job.id)
            continue
        is_final = JobState(job.state) in FINAL
        found.append(ListedJob(job.id, job.created_at, is_final, job.model_dump_json(), job.id in changed))
    return sorted(found, key=lambda job: (job.created_at, job.id))

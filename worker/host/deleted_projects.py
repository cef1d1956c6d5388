"""Removes the local folders of deleted projects. Each worker does so on its machine, and reports what it removed."""

import shutil
from contextlib import suppress
from pathlib import Path

import structlog

from app.db.session import Sessions, transaction
from app.domain.ids import is_id
from app.projects.service import ProjectService
from worker.host.work_folders import find_abandoned_of_project

log = structlog.get_logger()


def clear_deleted_projects(sessions: Sessions, work: Path, worker_id: str) -> None:
    """Remove the folders of deleted projects, and report the removals. A folder of a live attempt is left for the next
    call, and its project is reported then."""
    present = [path.name for path in work.glob("proj-*") if is_id(path.name, "proj")]
    with transaction(sessions, "find_deleted_projects") as session:
        ids = ProjectService(session).deletions_to_clear(worker_id, present)
    for id in ids:
        num_folders = remove_folders(work, id)
        if (work / id).exists():
            continue
        if num_folders:
            log.info("removed the folders of a deleted project", project=id, num_folders=num_folders)
        with transaction(sessions, "report_work_folders") as session:
            ProjectService(session).report_work_folders(id, worker_id, num_folders)


def remove_folders(work: Path, project_id: str) -> int:
    """Remove the project's abandoned folders and return their number."""
    num_folders = 0
    for folder in find_abandoned_of_project(work, project_id):
        shutil.rmtree(folder, ignore_errors=True)
        num_folders += 1
    with suppress(OSError):
        (work / project_id).rmdir()
    return num_folders

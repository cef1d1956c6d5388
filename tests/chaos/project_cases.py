"""Kills each process that takes part in deleting a project; in the end nothing of the project remains."""

import secrets

from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Job, Project, ProjectDeletion
from app.domain.ids import new_id
from app.keys.service import KeyService
from tests.chaos.harness import Harness, both
from tests.chaos.server_cases import DUTY

ERASE = DUTY.format("erase")
CLEAR = "from worker.tasks import clear_projects; clear_projects()"


def create_project(harness: Harness, step: str) -> None:
    """Kill the command line while it creates and deletes a project. A committed change holds."""
    name = f"project-{secrets.token_hex(4)}"
    create, delete = ("-m", "app.projects", "create", name), ("-m", "app.projects", "delete", name, "--yes")
    assert harness.run(*create, failpoint="before_create_project") == -9
    assert find_project(harness, name) is None
    assert harness.run(*create, failpoint="after_create_project") == -9
    id = find_project(harness, name)
    assert id
    assert harness.run(*delete, failpoint="before_request_project_deletion") == -9
    assert deletion_state(harness, id) is None
    assert harness.run(*delete, failpoint="after_request_project_deletion") == -9
    harness.stack.wait(lambda: deletion_state(harness, id) == "finished", f"{name} is deleted")
    assert find_project(harness, name) is None


def post_project(harness: Harness, step: str) -> None:
    """Kill the server during requests. A committed change holds."""
    name = f"project-{secrets.token_hex(4)}"

    def limit() -> int | None:
        return harness.client.get_project(name).max_running_jobs

    harness.kill_during("before_post_project", lambda: harness.client.create_project(name))
    assert find_project(harness, name) is None
    harness.kill_during("after_post_project", lambda: harness.client.create_project(name))
    id = find_project(harness, name)
    assert id
    harness.kill_during("before_change_project", lambda: harness.client.change_project(name, max_running_jobs=2))
    assert limit() is None
    harness.kill_during("after_change_project", lambda: harness.client.change_project(name, max_running_jobs=2))
    assert limit() == 2
    harness.kill_during("before_remove_project", lambda: harness.client.delete_project(name))
    assert deletion_state(harness, id) is None
    harness.kill_during("after_remove_project", lambda: harness.client.delete_project(name))
    assert harness.client.wait_for_project_deletion(id).state == "finished"
    assert find_project(harness, name) is None


def erase_project(harness: Harness, step: str) -> None:
    with harness.stack.paused("dispatcher"):
        id = furnish(harness)
        for failpoint in both(step):
            assert harness.run("-c", ERASE, failpoint=failpoint) == -9
    harness.stack.wait(lambda: deletion_state(harness, id) == "finished", "the dispatcher has finished the deletion")
    assert not [path for path in harness.storage.glob(f"{id}/**/*") if path.is_file()]
    harness.end(harness.post().id)


def report_work_folders(harness: Harness, step: str) -> None:
    with harness.stack.paused("dispatcher"), harness.stack.paused("light"), harness.stack.paused("training"):
        id = furnish(harness)
        assert harness.run("-c", ERASE) == 0
        folder = harness.stack.folder / "work" / id / new_id("ftjob") / "1"
        for failpoint in both(step):
            # Created each time, because the deletion may finish while workers are stopped.
            folder.mkdir(parents=True)
            assert harness.run("-c", CLEAR, failpoint=failpoint) == -9
    harness.stack.wait(lambda: deletion_state(harness, id) == "finished", "the other workers have reported")
    assert not folder.parents[1].exists()


def furnish(harness: Harness) -> str:
    """Create a project with a dataset and a job that waits for a GPU, request its deletion, and return its id."""
    name = f"project-{secrets.token_hex(4)}"
    assert harness.run("-m", "app.projects", "create", name) == 0
    id = find_project(harness, name)
    assert id
    job = {"state": "queued", "priority": 0, "base_model": "tiny", "method": "lora", "spec": {}, "metadata_": {}}
    job |= {"min_memory_gb": 0, "device": "cuda"}
    with transaction(harness.sessions) as session:
        session.add(Job(id=new_id("ftjob"), project_id=id, **job))
        key = KeyService(session).create(id, "chaos")
    with harness.stack.client(key) as client:
        client.upload_dataset(harness.rows)
    assert harness.run("-m", "app.projects", "delete", name, "--yes", "--no-wait") == 0
    return id


def find_project(harness: Harness, name: str) -> str | None:
    with transaction(harness.sessions) as session:
        return session.scalars(select(Project.id).where(Project.name == name)).one_or_none()


def deletion_state(harness: Harness, id: str) -> str | None:
    with transaction(harness.sessions) as session:
        return session.scalars(select(ProjectDeletion.state).where(ProjectDeletion.id == id)).one_or_none()

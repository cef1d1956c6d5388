"""What is left of the deletion of a project when whoever works at it is killed at a failpoint: nothing."""

import secrets

from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Job, Project, ProjectDeletion
from app.domain.ids import new_id
from app.keys.service import KeyService
from tests.chaos.server_cases import DUTY
from tests.chaos.stage import Stage, both

ERASE = DUTY.format("erase")
CLEAR = "from worker.tasks import clear_projects; clear_projects()"


def create_project(stage: Stage, step: str) -> None:
    """Created and deleted from the command line, each of which dies: what it writes holds once it is committed."""
    name = f"project-{secrets.token_hex(4)}"
    create, delete = ("-m", "app.projects", "create", name), ("-m", "app.projects", "delete", name, "--yes")
    assert stage.run(*create, failpoint="before_create_project") == -9
    assert find_project(stage, name) is None
    assert stage.run(*create, failpoint="after_create_project") == -9
    id = find_project(stage, name)
    assert id
    assert stage.run(*delete, failpoint="before_request_project_deletion") == -9
    assert deletion_state(stage, id) is None
    assert stage.run(*delete, failpoint="after_request_project_deletion") == -9
    stage.stack.wait(lambda: deletion_state(stage, id) == "finished", f"{name} is gone")
    assert find_project(stage, name) is None


def post_project(stage: Stage, step: str) -> None:
    """Over HTTP, by a server that dies: what it answers holds once it is committed."""
    name = f"project-{secrets.token_hex(4)}"

    def limit() -> int | None:
        return stage.client.get_project(name).max_running_jobs

    stage.unanswered("before_post_project", lambda: stage.client.create_project(name))
    assert find_project(stage, name) is None
    stage.unanswered("after_post_project", lambda: stage.client.create_project(name))
    id = find_project(stage, name)
    assert id
    stage.unanswered("before_change_project", lambda: stage.client.change_project(name, max_running_jobs=2))
    assert limit() is None
    stage.unanswered("after_change_project", lambda: stage.client.change_project(name, max_running_jobs=2))
    assert limit() == 2
    stage.unanswered("before_remove_project", lambda: stage.client.delete_project(name))
    assert deletion_state(stage, id) is None
    stage.unanswered("after_remove_project", lambda: stage.client.delete_project(name))
    assert stage.client.wait_for_project_deletion(id).state == "finished"
    assert find_project(stage, name) is None


def erase_project(stage: Stage, step: str) -> None:
    with stage.stack.paused("dispatcher"):
        id = furnish(stage)
        for failpoint in both(step):
            assert stage.run("-c", ERASE, failpoint=failpoint) == -9
    stage.stack.wait(lambda: deletion_state(stage, id) == "finished", "the dispatcher has ended it")
    assert not [path for path in stage.storage.glob(f"{id}/**/*") if path.is_file()]
    stage.end(stage.post().id)


def report_work_folders(stage: Stage, step: str) -> None:
    with stage.stack.paused("dispatcher"), stage.stack.paused("light"), stage.stack.paused("training"):
        id = furnish(stage)
        assert stage.run("-c", ERASE) == 0
        folder = stage.stack.folder / "work" / id / new_id("ftjob") / "1"
        for failpoint in both(step):
            # Each time, because the deletion may have ended without the workers that are held still.
            folder.mkdir(parents=True)
            assert stage.run("-c", CLEAR, failpoint=failpoint) == -9
    stage.stack.wait(lambda: deletion_state(stage, id) == "finished", "the other workers have looked")
    assert not folder.parents[1].exists()


def furnish(stage: Stage) -> str:
    """A project with a dataset and a job that waits for a GPU, whose deletion was asked for; its id."""
    name = f"project-{secrets.token_hex(4)}"
    assert stage.run("-m", "app.projects", "create", name) == 0
    id = find_project(stage, name)
    assert id
    job = {"state": "queued", "priority": 0, "base_model": "tiny", "method": "lora", "spec": {}, "metadata_": {}}
    job |= {"min_memory_gb": 0, "device": "cuda"}
    with transaction(stage.sessions) as session:
        session.add(Job(id=new_id("ftjob"), project_id=id, **job))
        key = KeyService(session).create(id, "chaos")
    with stage.stack.client(key) as client:
        client.upload_dataset(stage.rows)
    assert stage.run("-m", "app.projects", "delete", name, "--yes", "--no-wait") == 0
    return id


def find_project(stage: Stage, name: str) -> str | None:
    with transaction(stage.sessions) as session:
        return session.scalars(select(Project.id).where(Project.name == name)).one_or_none()


def deletion_state(stage: Stage, id: str) -> str | None:
    with transaction(stage.sessions) as session:
        return session.scalars(select(ProjectDeletion.state).where(ProjectDeletion.id == id)).one_or_none()

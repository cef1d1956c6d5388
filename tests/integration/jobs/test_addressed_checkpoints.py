"""Checkpoints by id and by name: lists, downloads, jobs that start from them, and how long they are kept."""

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select

from app.db.session import Sessions, transaction
from app.db.tables import Adapter, Checkpoint, Job
from app.domain.ids import new_id
from app.domain.jobs.model_names import fine_tuned_name
from app.errors import AmbiguousName
from app.jobs.attempts.service import AttemptService
from app.jobs.model_names import resolve_model_name
from app.jobs.queue.repository import Claim
from app.settings import Settings
from app.storage import Storage
from tests.integration.jobs.conftest import MACHINE
from tests.integration.jobs.retention_world import DAY, World
from tests.integration.jobs.test_points import measure
from worker.attempt.runner import AttemptRunner
from worker.training.runtime.messages import CheckpointWritten

Spec = Callable[..., dict[str, Any]]
Take = Callable[..., Claim]
REVISION = "1" * 64
ADAPTER = {"rank": 4, "alpha": 8, "target_modules": ["q_proj"]}
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights", "state.json": b"{}"}


class Source:
    """A running job, and the attempt that writes its checkpoints."""

    def __init__(self, api: TestClient, attempt: AttemptRunner, id: str) -> None:
        self.api, self.attempt, self.id = api, attempt, id
        attempt.checkpoint_uploader.base_model_revision = REVISION
        attempt.folder.mkdir(parents=True)
        attempt.reporter.open(attempt.folder)

    def write(self, step: int, files: dict[str, bytes] = FILES) -> dict[str, Any]:
        """Write a checkpoint and return it as the API shows it."""
        path = self.attempt.output_uploader.make_folder() / f"checkpoints/step-{step:08d}"
        path.mkdir(parents=True)
        for name, content in files.items():
            (path / name).write_bytes(content)
        self.attempt.checkpoint_uploader.store_checkpoint(
            CheckpointWritten(step=step, path=path, machine=MACHINE.fingerprint)
        )
        return next(each for each in self.shown() if each["step"] == step)

    def shown(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.api.get(f"/jobs/{self.id}/checkpoints").json()["items"]
        return items

    def succeed(self) -> None:
        paths = [self.attempt.folder / name for name in ("adapter_model.safetensors", "adapter.tar")]
        for path in paths:
            path.write_bytes(b"bytes")
        stored = [self.attempt.output_uploader.upload_file(path) for path in paths]
        spec = self.api.get(f"/jobs/{self.id}").json()["spec"]
        manifest = {"base_model": {"name": "tiny", "revision": REVISION}, "spec": {"adapter": spec["adapter"]}}
        self.attempt.write(lambda service: service.publish(manifest, stored[:1], stored[1]), "publish")


@pytest.fixture
def source(api: TestClient, make_spec: Spec, claim: Take, attempt_of: Callable[[Claim], AttemptRunner]) -> Source:
    training = {"epochs": 1, "keep_checkpoints": 2}
    posted = api.post("/jobs", json=make_spec(method="lora", adapter=ADAPTER, suffix="support", training=training))
    return Source(api, attempt_of(claim()), posted.json()["id"])


def refusal(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error["code"] for error in answer.json()["errors"]}


def test_checkpoints_are_listed_with_their_metrics(source: Source, api: TestClient) -> None:
    assert source.shown() == []
    measure(source.attempt.reporter, 1, 12)
    first, second = source.write(5), source.write(10)
    assert [each["id"] for each in source.shown()] == [second["id"], first["id"]]
    assert first["id"].startswith("ftckpt_")
    assert first["name"] == f"ft:tiny:support:{source.id[-8:]}:ckpt-step-5"
    points = api.get(f"/jobs/{source.id}/metrics").json()["items"]
    assert first["metrics"] == next(point["values"] for point in points if point["step"] == 5)
    assert (first["attempt"], first["job_id"], first["size"] > 10_000) == (1, source.id, True)
    assert api.get("/jobs/ftjob-" + "0" * 24 + "/checkpoints").json()["code"] == "job_not_found"


def test_a_checkpoints_adapter_is_downloaded_whole_and_in_part(source: Source, api: TestClient) -> None:
    url = source.write(5)["url"]
    whole = api.get(url)
    with tarfile.open(fileobj=io.BytesIO(whole.content)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        assert {name: file and file.read() for name, file in files.items()} == {
            name: FILES[name] for name in ("adapter_config.json", "adapter_model.safetensors")
        }
    assert f"ft-tiny-support-{source.id[-8:]}-ckpt-step-5.tar" in whole.headers["content-disposition"]
    part = api.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert api.head(url).headers["content-length"] == str(len(whole.content))
    assert api.get(url.replace("ftckpt_", "ftckpt_0")).json()["code"] == "checkpoint_not_found"


def test_a_checkpoint_without_an_adapter_is_neither_downloaded_nor_started_from(
    source: Source, api: TestClient, make_spec: Spec
) -> None:
    shown = source.write(5, {"trainable.safetensors": b"all of them", "state.json": b"{}"})
    assert shown["url"] is None
    answer = api.get(f"/jobs/{source.id}/checkpoints/{shown['id']}/archive")
    assert (answer.status_code, answer.json()["code"]) == (409, "checkpoint_without_adapter")
    spec = make_spec(method="lora", init_from=shown["id"])
    assert refusal(api.post("/jobs", json=spec)) == {"/init_from": "checkpoint_without_adapter"}


def test_a_job_starts_from_a_checkpoint_by_id_or_name(
    source: Source,
    api: TestClient,
    make_spec: Spec,
    claim: Take,
    attempt_of: Callable[[Claim], AttemptRunner],
) -> None:
    shown = source.write(5)
    for start in (shown["id"], shown["name"]):
        posted = api.post("/jobs", json=make_spec(method="lora", init_from=start)).json()
        assert posted["spec"]["init_from"] == start
        assert posted["spec"]["adapter"] == ADAPTER | {
            "dropout": 0.0,
            "use_rslora": False,
            "use_dora": False,
            "init": "default",
            "lora_plus_ratio": 1.0,
        }
        attempt = attempt_of(claim())
        attempt.folder.mkdir(parents=True)
        folder = attempt.input_fetcher.fetch_init_from(shown["id"])
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            name: FILES[name] for name in ("adapter_config.json", "adapter_model.safetensors")
        }
    other = make_spec(method="lora", init_from=shown["id"], adapter={"rank": 8})
    assert refusal(api.post("/jobs", json=other)) == {"/adapter/rank": "init_from_mismatch"}
    for unknown in ("ftckpt_" + "0" * 24, shown["name"].replace("-5", "-6"), "ft:tiny::00000000"):
        spec = make_spec(method="lora", init_from=unknown)
        assert refusal(api.post("/jobs", json=spec)) == {"/init_from": "init_from_not_found"}, unknown


def test_a_job_starts_from_another_jobs_result_by_name(
    source: Source, api: TestClient, make_spec: Spec, sessions: Sessions, project_id: str
) -> None:
    name = f"ft:tiny:support:{source.id[-8:]}"
    spec = make_spec(method="lora", init_from=name)
    assert refusal(api.post("/jobs", json=spec)) == {"/init_from": "init_from_not_found"}, (
        "the job has not succeeded yet"
    )
    source.succeed()
    assert api.post("/jobs", json=spec).status_code == 201
    with transaction(sessions) as session:
        named = resolve_model_name(session, project_id, name)
        assert named is not None
        assert named.adapter is not None
        assert (named.job.id, named.adapter.name) == (source.id, name)
        assert session.scalar(select(Job.init_from_id).where(Job.init_from_id.is_not(None))) == named.adapter.id
        assert resolve_model_name(session, "proj-" + "0" * 24, name) is None
        session.execute(delete(Adapter))
        assert resolve_model_name(session, project_id, name) is None


def test_a_name_that_two_jobs_share_is_refused(
    source: Source, api: TestClient, make_spec: Spec, sessions: Sessions, project_id: str
) -> None:
    shown = source.write(5)
    with transaction(sessions) as session:
        [checkpoint], job = session.scalars(select(Checkpoint)).all(), session.get(Job, source.id)
        assert job is not None
        columns = {column.key: getattr(job, column.key) for column in Job.__mapper__.column_attrs}
        twin = f"ftjob-{'0' * 16}{source.id[-8:]}"
        session.add(Job(**columns | {"id": twin, "state": "queued"}))
        session.flush()
        columns = {column.key: getattr(checkpoint, column.key) for column in Checkpoint.__mapper__.column_attrs}
        session.add(Checkpoint(**columns | {"id": new_id("ftckpt"), "job_id": twin}))
    with transaction(sessions) as session, pytest.raises(AmbiguousName, match=twin):
        resolve_model_name(session, project_id, shown["name"])
    assert refusal(api.post("/jobs", json=make_spec(method="lora", init_from=shown["name"]))) == {
        "/init_from": "ambiguous_name"
    }
    assert api.post("/jobs", json=make_spec(method="lora", init_from=shown["id"])).status_code == 201


def test_a_checkpoint_that_a_job_starts_from_is_kept(
    source: Source,
    api: TestClient,
    make_spec: Spec,
    sessions: Sessions,
    settings: Settings,
    project_id: str,
    storage: Storage,
) -> None:
    """When newer checkpoints replace it, when its time after the job's end is over, and when a user deletes its job."""
    used = source.write(1)
    user = api.post("/jobs", json=make_spec(method="lora", init_from=used["name"])).json()["id"]
    for step in (2, 3, 4):
        source.write(step)
    assert [each["step"] for each in source.shown()] == [4, 3, 1]
    source.succeed()
    world = World(settings, sessions, project_id)
    world.pass_time(8 * DAY)
    world.collect()
    assert [each["step"] for each in source.shown()] == [1]
    assert api.get(used["url"]).status_code == 200
    refused = api.delete(f"/jobs/{source.id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "checkpoint_in_use")
    assert user in refused.json()["detail"]
    api.post(f"/jobs/{user}/cancel")
    world.collect()
    assert source.shown() == []
    assert api.delete(f"/jobs/{source.id}").status_code == 204


def test_a_job_whose_start_checkpoint_was_deleted_fails(
    source: Source,
    api: TestClient,
    make_spec: Spec,
    sessions: Sessions,
    claim: Take,
    attempt_of: Callable[[Claim], AttemptRunner],
) -> None:
    shown = source.write(1)
    user = api.post("/jobs", json=make_spec(method="lora", init_from=shown["id"])).json()["id"]
    with transaction(sessions) as session:
        session.execute(delete(Checkpoint))
    attempt_of(claim()).run()
    assert api.get(f"/jobs/{user}").json()["failure"]["reason"] == "init_from_not_found"


def test_a_model_name_without_a_suffix_has_an_empty_part() -> None:
    job = Job(id="ftjob-" + "0" * 16 + "0a1b2c3d", base_model="acme/tiny", spec={"suffix": None})
    assert fine_tuned_name(job) == "ft:acme/tiny::0a1b2c3d"


def test_saving_a_checkpoint_drops_the_oldest_one(source: Source, sessions: Sessions) -> None:
    """The fenced transaction that adds the new checkpoint also drops the old one."""
    for step in (1, 2, 3):
        source.write(step)
    with transaction(sessions) as session:
        assert [each.step for each in AttemptService(session, source.attempt.claim).checkpoints()] == [3, 2]

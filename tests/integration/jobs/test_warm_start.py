"""`init_from` starts a job from another job's adapter: over HTTP, the queue, the preparation and the engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.adapters.service import AdapterService
from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.domain.ids import new_id
from app.domain.jobs.state import FailureReason, JobState
from app.projects.lookup import find_or_create_project
from app.storage import Storage
from tests.integration.adapters.conftest import add_job
from tests.unit.training.conftest import Recorder
from worker.attempt.runner import AttemptRunner
from worker.training.loop.training_loop import train
from worker.training.runtime.messages import Finished

Spec = Callable[..., dict[str, Any]]
AdapterMaker = Callable[..., str]
REVISION = "1" * 64
TRAINED: dict[str, Any] = {"rank": 4, "alpha": 8, "target_modules": ["q_proj", "up_proj"], "dropout": 0.1}


@pytest.fixture
def make_adapter(sessions: Sessions, project_id: str, base_model: str, tmp_path: Path) -> AdapterMaker:
    """Insert an adapter as if it had been trained with these settings, and return its id."""

    def make(revision: str = REVISION, name: str = base_model, project: str = project_id, **adapter: Any) -> str:
        manifest = {"base_model": {"name": name, "revision": revision}, "spec": {"adapter": TRAINED | adapter}}
        job_id = add_job(sessions, project)
        storage, source = Storage(f"file://{tmp_path}/storage"), tmp_path / "adapter.tar"
        source.write_bytes(b"tar")
        tar = storage.put_file(f"{project}/jobs/{job_id}/1/adapter.tar", source, "adapter.tar")
        with transaction(sessions) as session:
            return AdapterService(session).publish(
                project, job_id, 1, name="ft:x", base_model=name, manifest=manifest, files=[], archive=tar
            )

    return make


def problem_codes(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error["code"] for error in answer.json()["errors"]}


def test_settings_that_the_spec_omits_are_the_adapters(
    api: TestClient, make_spec: Spec, make_adapter: AdapterMaker
) -> None:
    id = make_adapter()
    spec = api.post("/jobs", json=make_spec(init_from=id)).json()["spec"]
    assert spec["init_from"] == id
    assert spec["adapter"] == TRAINED | {
        "use_rslora": False,
        "use_dora": False,
        "init": "default",
        "lora_plus_ratio": 1.0,
    }
    spec = api.post("/jobs", json=make_spec(init_from=id, adapter={"alpha": "auto"})).json()["spec"]
    assert spec["adapter"]["alpha"] == TRAINED["alpha"]
    given = {"dropout": 0.0, "rank": 4, "target_modules": ["up_proj", "q_proj"], "lora_plus_ratio": 8}
    spec = api.post("/jobs", json=make_spec(init_from=id, method="lora", adapter=given)).json()["spec"]
    assert spec["adapter"] == TRAINED | {"use_rslora": False, "use_dora": False, "init": "default"} | given


def test_an_adapter_that_changed_its_base_weights_has_the_settings_of_its_files(
    api: TestClient, make_spec: Spec, make_adapter: AdapterMaker
) -> None:
    spec = api.post("/jobs", json=make_spec(init_from=make_adapter(init="pissa"))).json()["spec"]
    assert (spec["adapter"]["rank"], spec["adapter"]["alpha"], spec["adapter"]["init"]) == (8, 16, "default")
    huge = make_spec(init_from=make_adapter(init="olora", rank=1000))
    assert problem_codes(api.post("/jobs", json=huge)) == {"/init_from": "adapter_too_large"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 8),
        ("alpha", 16),
        ("target_modules", "all-linear"),
        ("target_modules", ["q_proj"]),
        ("use_rslora", True),
        ("use_dora", True),
    ],
)
def test_a_setting_that_differs_from_the_adapters_is_refused(
    field: str, value: object, api: TestClient, make_spec: Spec, make_adapter: AdapterMaker
) -> None:
    spec = make_spec(init_from=make_adapter(), adapter={field: value})
    assert problem_codes(api.post("/jobs", json=spec)) == {f"/adapter/{field}": "init_from_mismatch"}


def test_an_adapter_of_another_base_model_is_refused(
    api: TestClient, make_spec: Spec, make_adapter: AdapterMaker
) -> None:
    for other in (make_adapter(revision="2" * 64), make_adapter(name="other")):
        assert problem_codes(api.post("/jobs", json=make_spec(init_from=other))) == {
            "/init_from": "base_model_mismatch"
        }


def test_an_adapter_that_is_not_found_is_refused(
    api: TestClient, make_spec: Spec, make_adapter: AdapterMaker, sessions: Sessions
) -> None:
    unknown = make_spec(init_from=new_id("adp"), colour="red")
    assert problem_codes(api.post("/jobs", json=unknown)) == {
        "/init_from": "adapter_not_found",
        "/colour": "unknown_field",
    }
    with transaction(sessions) as session:
        their_project = find_or_create_project(session, "theirs")
    theirs = make_adapter(project=their_project)
    assert problem_codes(api.post("/jobs", json=make_spec(init_from=theirs))) == {"/init_from": "adapter_not_found"}
    nonsense = make_spec(init_from="adapter 7")
    assert "/init_from" in problem_codes(api.post("/jobs", json=nonsense))


def test_a_job_starts_from_another_jobs_adapter(
    trainable: str, api: TestClient, make_spec: Spec, hold: Callable[[], AttemptRunner]
) -> None:
    training = {"max_steps": 12, "batch_size": 4, "learning_rate": 0.01}
    adapter = {"rank": 4, "init": "pissa", "use_rslora": True}
    first = make_spec(dataset_id=trainable, method="lora", adapter=adapter, training=training)
    job_id = api.post("/jobs", json=first).json()["id"]
    attempt, trained = hold(), Recorder()
    request = attempt.prepare()
    assert request.init_from_path is None
    train(request, trained)
    assert isinstance(trained.lines[-1], Finished)
    attempt.publish(trained.lines[-1].path)

    adapter_id = api.get(f"/jobs/{job_id}").json()["adapter_id"]
    second = make_spec(dataset_id=trainable, method="lora", init_from=adapter_id, training=training)
    posted = api.post("/jobs", json=second)
    assert posted.status_code == 201, posted.text
    attempt, warm = hold(), Recorder()
    request = attempt.prepare()
    assert request.init_from_path == attempt.folder / "init_from"
    assert (request.init_from_path / "adapter_model.safetensors").exists()
    train(request, warm)
    assert warm.losses()[0] < 0.5 * trained.losses()[0]


def test_a_job_whose_start_adapter_was_deleted_fails(
    api: TestClient,
    make_spec: Spec,
    make_adapter: AdapterMaker,
    hold: Callable[[], AttemptRunner],
    sessions: Sessions,
    state_of: Callable[[str], JobState],
) -> None:
    id = make_adapter()
    job_id = api.post("/jobs", json=make_spec(init_from=id)).json()["id"]
    assert api.delete(f"/adapters/{id}").status_code == 204
    hold().run()
    assert state_of(job_id) is JobState.failed
    with transaction(sessions) as session:
        job = session.get(Job, job_id)
        assert job is not None
        assert job.failure_reason == FailureReason.init_from_not_found
        assert id in (job.failure_message or "")

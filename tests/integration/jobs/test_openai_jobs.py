"""Fine-tuning jobs through OpenAI's own client, over the real services; nobody trains them here."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy import select, text, update

from app.db.answered_creates import find_created, forget_created
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, Job
from app.domain.event import Warned
from app.domain.job import FailureReason
from app.domain.machine import Machine
from app.jobs.attempts import AttemptService
from app.jobs.queue import Claim
from app.jobs.service import JobService
from app.workers.service import WorkerService
from tests.fixtures.openai_client import async_openai_client, openai_client

Take = Callable[..., Claim]
AUTO = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}


@pytest.fixture
def key(make_key: Callable[..., str], project_id: str) -> str:
    return make_key()


@pytest.fixture
def sdk(live_server: str, key: str) -> Iterator[OpenAI]:
    with openai_client(live_server, key) as client:
        yield client


@pytest.fixture
def create(sdk: OpenAI, base_model: str, make_dataset: Callable[..., str]) -> Callable[..., Any]:
    file_id = make_dataset()

    def create(**fields: Any) -> Any:
        return sdk.fine_tuning.jobs.create(**{"model": base_model, "training_file": file_id} | fields)

    return create


def native(live_server: str, key: str, path: str) -> Any:
    return httpx2.get(f"{live_server}{path}", headers={"Authorization": f"Bearer {key}"}).json()


def as_json(part: Any) -> Any:
    return part.model_dump(exclude_none=True)


def test_auto_is_resolved_and_told(
    create: Callable[..., Any], sdk: OpenAI, live_server: str, key: str, sessions: Sessions
) -> None:
    job = create()
    assert as_json(job.hyperparameters) == AUTO
    assert as_json(job.method) == {"type": "supervised", "supervised": {"hyperparameters": AUTO}}
    assert (job.status, job.error, job.finished_at, job.result_files) == ("queued", None, None, [])
    assert (job.fine_tuned_model, job.trained_tokens, job.metadata, job.integrations) == (None, None, None, None)
    assert abs(job.created_at - time.time()) < 60
    assert create().seed != job.seed
    assert sdk.fine_tuning.jobs.retrieve(job.id) == job
    spec = native(live_server, key, f"/jobs/{job.id}")["spec"]
    assert (spec["training"]["epochs"], spec["training"]["batch_size"], spec["training"]["learning_rate"]) == (
        3,
        8,
        2e-4,
    )
    assert spec["training"]["seed"] == job.seed
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(size=20 * 2**20))
    assert as_json(create().hyperparameters) == AUTO | {"n_epochs": 2, "batch_size": 32}
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(size=2**30))
    assert as_json(create().hyperparameters) == AUTO | {"n_epochs": 1, "batch_size": 64}


def test_what_is_given_holds(
    create: Callable[..., Any], live_server: str, key: str, make_dataset: Callable[..., str]
) -> None:
    given = {"n_epochs": 4, "batch_size": 2, "learning_rate_multiplier": 1.9}
    validation = make_dataset()
    job = create(
        method={"type": "supervised", "supervised": {"hyperparameters": given}},
        validation_file=validation,
        suffix="my-own",
        seed=7,
        metadata={"team": "support"},
        extra_body={"tunewright": {"method": "full", "priority": 3, "training": {"schedule": "linear"}}},
    )
    assert as_json(job.hyperparameters) == given
    assert (job.seed, job.metadata, job.validation_file) == (7, {"team": "support"}, validation)
    spec = native(live_server, key, f"/jobs/{job.id}")["spec"]
    assert (spec["method"], spec["priority"], spec["training"]["schedule"], spec["suffix"]) == (
        "full",
        3,
        "linear",
        "my-own",
    )
    assert spec["training"]["learning_rate"] == pytest.approx(1.9e-5)
    assert job.tunewright["spec"] == spec
    old = create(hyperparameters={"n_epochs": "auto", "batch_size": 5})
    assert as_json(old.hyperparameters) == AUTO | {"batch_size": 5}
    in_steps = create(extra_body={"tunewright": {"training": {"max_steps": 9}}})
    assert in_steps.hyperparameters.n_epochs is None


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


WANDB: Any = {"type": "wandb", "wandb": {"project": "cats"}}
IN_METHOD = "method.supervised.hyperparameters"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "gpt-none"}, "model", "unknown_model"),
        ({"model": "ft:tiny::0a1b2c3d"}, "model", "start_not_found"),
        ({"model": "ft:tiny::0a1b2c3d:ckpt-step-8"}, "model", "start_not_found"),
        ({"training_file": "file-none"}, "training_file", "string_pattern_mismatch"),
        ({"training_file": "file-" + "0" * 24}, "training_file", "dataset_not_found"),
        ({"validation_file": "file-" + "0" * 24}, "validation_file", "dataset_not_found"),
        ({"suffix": "two words"}, "suffix", "string_pattern_mismatch"),
        ({"seed": -1}, "seed", "greater_than_equal"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_too_long"),
        ({"method": supervised(n_epochs=0)}, f"{IN_METHOD}.n_epochs", "greater_than_equal"),
        ({"method": supervised(batch_size=257)}, f"{IN_METHOD}.batch_size", "less_than_equal"),
        ({"method": supervised(beta=0.1)}, f"{IN_METHOD}.beta", "unknown_field"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            "hyperparameters.learning_rate_multiplier",
            "greater_than",
        ),
        (
            {"method": supervised(learning_rate_multiplier=1e6)},
            f"{IN_METHOD}.learning_rate_multiplier",
            "less_than_equal",
        ),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method", "unsupported_method"),
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_field"),
        ({"extra_body": {"tunewright": {"colour": "red"}}}, "tunewright.colour", "unknown_field"),
        (
            {"seed": 1, "extra_body": {"tunewright": {"training": {"seed": 2}}}},
            "tunewright.training.seed",
            "given_twice",
        ),
        ({"extra_body": {"tunewright": {"adapter": {"rank": 0}}}}, "tunewright.adapter.rank", "greater_than_equal"),
        ({"extra_body": {"tunewright": 3}}, "tunewright", "dict_type"),
        ({"integrations": [{"type": "tensorboard"}]}, "integrations[0].type", "unsupported_integration"),
        ({"integrations": [WANDB, {"type": "mlflow"}]}, "integrations[1].type", "unsupported_integration"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations[0].wandb.project", "missing"),
        ({"integrations": [WANDB, WANDB]}, "integrations", "integration_twice"),
        ({"integrations": [WANDB] * 6}, "integrations", "too_long"),
        (
            {"extra_body": {"tunewright": {"integrations": [{"type": "mlflow", "mlflow": {}}]}}},
            "tunewright.integrations[0].mlflow.experiment",
            "missing",
        ),
    ],
)
def test_refusals_name_the_field(
    create: Callable[..., Any], fields: dict[str, Any], param: str, code: str, sdk: OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
    assert sdk.fine_tuning.jobs.list().data == []
    if code == "unsupported_method":
        assert '"supervised" and "dpo"' in caught.value.message


def test_integrations_come_back(create: Callable[..., Any], sdk: OpenAI) -> None:
    wandb = {"project": "cats", "name": "first", "entity": "team", "tags": ["a", "b"]}
    job = create(integrations=[{"type": "wandb", "wandb": wandb}])
    assert [as_json(each) for each in job.integrations] == [{"type": "wandb", "wandb": wandb}]
    assert sdk.fine_tuning.jobs.retrieve(job.id) == job
    board = {"type": "tensorboard"}
    job = create(extra_body={"tunewright": {"integrations": [board, WANDB]}})
    assert [each.wandb.project for each in job.integrations] == ["cats"]
    assert [each["type"] for each in job.tunewright["spec"]["integrations"]] == ["tensorboard", "wandb"]
    assert create(extra_body={"tunewright": {"integrations": [board]}}).integrations is None


def test_an_integration_that_no_worker_serves_is_refused(
    create: Callable[..., Any], sdk: OpenAI, sessions: Sessions
) -> None:
    """Without a worker one may come that serves it: then it is accepted."""
    machine = Machine("cpu-1-18", "cpu", 8.0)

    def register(*serves: str) -> None:
        with transaction(sessions) as session:
            told: Any = {"draining": False, "disk_full": False, "lease": 60}
            WorkerService(session).register(machine, {}, ["training"], serves, **told)

    assert create(integrations=[WANDB]).integrations
    register("mlflow")
    with pytest.raises(openai.BadRequestError) as caught:
        create(integrations=[WANDB])
    assert (caught.value.param, caught.value.code) == ("integrations[0].type", "integration_unavailable")
    for word in ("pip install 'tunewright[integrations]'", "WANDB_API_KEY"):
        assert word in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        create(extra_body={"tunewright": {"integrations": [{"type": "tensorboard"}]}})
    assert caught.value.param == "tunewright.integrations[0].type"
    register("mlflow", "wandb")
    assert create(integrations=[WANDB]).integrations


def test_what_is_not_there_and_what_is_not_offered(sdk: OpenAI) -> None:
    unknown = "ftjob-" + "0" * 24
    jobs = sdk.fine_tuning.jobs
    for ask in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError) as missing:
            ask(unknown)
        assert (missing.value.code, missing.value.param) == ("job_not_found", "fine_tuning_job_id")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.alpha.graders.validate(
            grader={"type": "string_check", "name": "x", "input": "a", "reference": "a", "operation": "eq"}
        )
    assert refused.value.code == "unsupported_method"


def test_states_as_openai_names_them(
    create: Callable[..., Any], sdk: OpenAI, claim: Take, sessions: Sessions, project_id: str
) -> None:
    jobs = sdk.fine_tuning.jobs
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(state="inspecting"))
    job = create()
    assert job.status == "validating_files"
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(state="ready"))
    assert jobs.retrieve(job.id).status == "queued"
    assert jobs.pause(job.id).status == "paused"
    asked: list[httpx2.Response] = []
    sdk._client.event_hooks["response"].append(asked.append)
    with pytest.raises(openai.ConflictError) as caught:
        jobs.pause(job.id)
    assert (caught.value.code, caught.value.param) == ("already_paused", "fine_tuning_job_id")
    assert [each.headers["x-should-retry"] for each in asked] == ["false"]
    assert jobs.resume(job.id).status == "queued"
    held = claim()
    assert jobs.retrieve(job.id).status == "running"
    assert jobs.pause(job.id).status == "pausing"
    assert jobs.resume(job.id).status == "queued"
    with pytest.raises(openai.ConflictError) as caught:
        jobs.resume(job.id)
    assert caught.value.code == "not_paused"
    with transaction(sessions) as session:
        AttemptService(session, held).release()
    held = claim()
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.retrieve(job.id).finished_at is None, "its process has not ended yet"
    with pytest.raises(openai.ConflictError) as caught:
        jobs.cancel(job.id)
    assert caught.value.code == "already_cancelling"
    with transaction(sessions) as session:
        AttemptService(session, held).release()
    assert jobs.retrieve(job.id).finished_at is not None
    with pytest.raises(openai.ConflictError) as caught:
        jobs.cancel(job.id)
    assert caught.value.code == "job_final"

    failing = create()
    with transaction(sessions) as session:
        AttemptService(session, claim()).fail(FailureReason.no_labelled_tokens, "Nothing to learn from.")
    failed = jobs.retrieve(failing.id)
    assert failed.status == "failed"
    assert as_json(failed.error) == {
        "code": "no_labelled_tokens",
        "message": "Nothing to learn from.",
        "param": "training_file",
    }
    assert failed.fine_tuned_model is None


def test_more_than_a_hundred_jobs_page_by_page(
    sdk: OpenAI,
    sessions: Sessions,
    project_id: str,
    make_spec: Callable[..., dict[str, Any]],
    live_server: str,
    key: str,
) -> None:
    with transaction(sessions) as session:
        spec = make_spec()
        made = [
            JobService(session).submit(project_id, spec | ({"metadata": {"third": str(n % 3)}} if n % 2 else {})).id
            for n in range(105)
        ]
    newest = made[::-1]
    jobs = sdk.fine_tuning.jobs
    assert [job.id for job in jobs.list()] == newest
    assert [job.id for job in jobs.list(limit=100)] == newest
    page = jobs.list(limit=7, after=newest[20])
    assert ([job.id for job in page.data], page.has_more) == (newest[21:28], True)
    filtered = [id for n, id in enumerate(made) if n % 2 and n % 3 == 1][::-1]
    assert [job.id for job in jobs.list(metadata={"third": "1"}, limit=5)] == filtered
    plain = [id for n, id in enumerate(made) if n % 2 == 0][::-1]
    assert [job.id for job in jobs.list(extra_query={"metadata": "null"})] == plain
    with pytest.raises(openai.BadRequestError) as caught:
        jobs.list(after="ftjob-" + "0" * 24)
    assert (caught.value.param, caught.value.code) == ("after", "job_not_found")

    async def listed() -> list[str]:
        async with async_openai_client(live_server, key) as client:
            return [job.id async for job in client.fine_tuning.jobs.list(limit=50)]

    assert asyncio.run(listed()) == newest


def measure(sessions: Sessions, claim: Claim, first: int, last: int) -> None:
    """Points as the worker's clock stamps them, which is an hour ahead."""
    with transaction(sessions) as session:
        session.execute(
            text(
                "INSERT INTO metric_values (project_id, job_id, attempt, number, step, at, name, value) "
                "SELECT :project, :job, :attempt, n, n, clock_timestamp() + interval '1 hour', 'loss', 1.0 / n "
                "FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n"
            ),
            {"project": claim.project_id, "job": claim.job_id, "attempt": claim.attempt, "first": first, "last": last},
        )


def test_events_and_metrics_are_one_row(
    create: Callable[..., Any], sdk: OpenAI, claim: Take, sessions: Sessions
) -> None:
    """The newest first; pages of any size give the same; what comes later moves nothing."""
    job = create()
    for attempt in (1, 2):
        held = claim()
        measure(sessions, held, 1, 12)
        with transaction(sessions) as session:
            session.execute(
                text("UPDATE metric_values SET at = clock_timestamp() WHERE number <= 6 AND attempt = :attempt"),
                {"attempt": attempt},
            )
        with transaction(sessions) as session:
            AttemptService(session, held).tell(Warned(code="odd", text=f"In the midst of attempt {attempt}."))
        with transaction(sessions) as session:
            AttemptService(session, held).release()
    events = sdk.fine_tuning.jobs.list_events
    whole = list(events(job.id, limit=100))
    assert len(whole) == 24 + 7
    ids = [event.id for event in whole]
    assert len(set(ids)) == len(ids)
    for limit in (1, 2, 3, 5, 20):
        assert [event.id for event in events(job.id, limit=limit)] == ids, limit
    texts = [event.message for event in reversed(whole)]
    assert texts[0].startswith("The job was accepted")
    claimed = [n for n, each in enumerate(texts) if "took the job up" in each]
    odd = [n for n, each in enumerate(texts) if each.startswith("In the midst")]
    steps = [n for n, each in enumerate(texts) if each.startswith("Step ")]
    assert all(claimed[0] < n < claimed[1] for n in steps[:12]), (
        "an attempt's points are between its claim and the next"
    )
    assert all(n > claimed[1] for n in steps[12:])
    assert [n for n in steps[:12] if n < odd[0]] == steps[:6]
    point = next(event for event in whole if event.type == "metrics")
    assert (point.message, point.level) == ("Step 12: training loss=0.0833", "info")
    assert point.data["train_loss"] == pytest.approx(1 / 12)
    assert next(event for event in whole if event.message.startswith("In the")).data["event"] == "warned"
    held = claim()
    measure(sessions, held, 1, 3)
    assert [event.id for event in events(job.id, limit=6)][-len(ids) :] == ids
    for nonsense in ("ftevent-1", ids[0].replace(ids[0][8:32], "0" * 24), "-".join(ids[0].split("-")[:2]) + "-999"):
        with pytest.raises(openai.BadRequestError) as caught:
            events(job.id, after=nonsense)
        assert (caught.value.param, caught.value.code) == ("after", "event_not_found")


def test_checkpoints(create: Callable[..., Any], sdk: OpenAI, claim: Take, sessions: Sessions) -> None:
    job = create(suffix="own", extra_body={"tunewright": {"training": {"keep_checkpoints": 15}}})
    listed = sdk.fine_tuning.jobs.checkpoints.list
    empty = listed(job.id)
    assert (empty.data, empty.first_id, empty.last_id, empty.has_more) == ([], None, None, False)
    held = claim()
    measure(sessions, held, 1, 12)
    for step in range(1, 13):
        with transaction(sessions) as session:
            AttemptService(session, held).save_checkpoint(step, [])
    page = listed(job.id)
    assert [each.step_number for each in page.data] == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]
    assert page.has_more
    whole = list(listed(job.id, limit=5))
    assert [each.step_number for each in whole] == list(range(12, 0, -1))
    assert whole[0].fine_tuned_model_checkpoint == f"ft:tiny:own:{job.id[-8:]}:ckpt-step-12"
    assert as_json(whole[0].metrics) == {"step": 12, "train_loss": pytest.approx(1 / 12)}
    assert sdk.models.retrieve(whole[0].fine_tuned_model_checkpoint).id == whole[0].fine_tuned_model_checkpoint
    with pytest.raises(openai.BadRequestError) as caught:
        listed(job.id, after="ftckpt_none")
    assert (caught.value.param, caught.value.code) == ("after", "checkpoint_not_found")


def sent_again(count: int) -> dict[str, str]:
    return {"x-stainless-retry-count": str(count)}


def test_a_create_that_is_sent_again_makes_nothing_again(
    create: Callable[..., Any], make_key: Callable[..., str], live_server: str, sessions: Sessions
) -> None:
    first = create(suffix="a")
    assert create(suffix="a").id != first.id, "two deliberate equal creates make two"
    second = create(suffix="b")
    assert create(suffix="b", extra_headers=sent_again(1)).id == second.id
    assert create(suffix="b", extra_headers=sent_again(2)).id == second.id
    alone = create(suffix="c", extra_headers=sent_again(1))
    assert create(suffix="c", extra_headers=sent_again(2)).id == alone.id
    assert create(suffix="c").id != alone.id
    fields = {"model": "tiny", "training_file": first.training_file, "suffix": "b"}
    with openai_client(live_server, make_key()) as other:
        assert other.fine_tuning.jobs.create(**fields, extra_headers=sent_again(1)).id != second.id
    with transaction(sessions) as session:
        session.execute(text("UPDATE answered_creates SET created_at = created_at - interval '31 minutes'"))
    assert create(suffix="b", extra_headers=sent_again(1)).id != second.id
    with transaction(sessions) as session:
        forget_created(session)
        assert session.scalar(text("SELECT count(*) FROM answered_creates")) == 1


class CutOff(httpx2.HTTPTransport):
    """Loses the answer to the first request that it carries."""

    lost = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if not self.lost:
            self.lost = True
            response.read()
            raise httpx2.ReadError("cut off", request=request)
        return response


def test_a_create_whose_answer_was_cut_off_makes_one_job(
    sdk: OpenAI, live_server: str, key: str, base_model: str, make_dataset: Callable[..., str]
) -> None:
    file_id = make_dataset()
    with OpenAI(base_url=f"{live_server}/v1", api_key=key, http_client=httpx2.Client(transport=CutOff())) as client:
        job = client.fine_tuning.jobs.create(model=base_model, training_file=file_id)
    assert [each.id for each in sdk.fine_tuning.jobs.list()] == [job.id]


def test_a_create_sent_again_while_the_first_is_at_work_waits_for_it(
    create: Callable[..., Any], sdk: OpenAI, sessions: Sessions
) -> None:
    """The catalogue is locked, so that both are held up in the midst of their transactions."""
    answered: list[str] = []
    threads = [
        threading.Thread(target=lambda count=count: answered.append(create(extra_headers=sent_again(count)).id))
        for count in (0, 1)
    ]
    with transaction(sessions) as session:
        session.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        for thread in threads:
            thread.start()
            time.sleep(0.3)
    for thread in threads:
        thread.join()
    assert len(set(answered)) == 1
    assert [each.id for each in sdk.fine_tuning.jobs.list()] == answered[:1]


def test_a_create_that_its_own_retry_overtook_makes_nothing(
    create: Callable[..., Any], sessions: Sessions, project_id: str
) -> None:
    again = create(extra_headers=sent_again(1))
    with transaction(sessions) as session:
        sha256 = session.scalar(text("SELECT request_sha256 FROM answered_creates"))
    with transaction(sessions) as session:
        assert find_created(session, project_id, sha256, 0, waited=60) == again.id
        assert find_created(session, project_id, sha256, 0, waited=0) is None
        assert session.scalar(select(Job.id)) == again.id

"""Previews through the API and the light worker."""

import shutil
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, func, select, update

from app.datasets.service import DatasetService
from app.db.session import Sessions, transaction
from app.db.tables import Dataset, DatasetCheck, RegisteredModel
from app.dispatcher import find_light_work
from app.domain.dataset_checks.state import KEPT
from app.settings import Settings
from app.storage import Storage
from tests.fixtures.models import register_model
from tests.fixtures.processes import running
from tests.integration.dataset_checks.conftest import HERE
from worker.host.model_cache import ModelCache
from worker.light import dataset_checks
from worker.light.dataset_checks import run_next_check
from worker.light.inspections import InspectionContext
from worker.processes.inspection import OWN_VARIABLES, PASSED_ON

Send = Callable[[list[Any]], str]
Do = Callable[[], int]
Post = Callable[..., Any]
ROWS = [{"prompt": f"Ticket {n}: ", "completion": "red green blue " * (1 + n % 5)} for n in range(30)]
SLEEPING = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
"""A template that never finishes."""
CHAT = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]


@pytest.fixture
def ask(api: TestClient, model: str) -> Post:
    """Post a preview; return its URL."""

    def post(id: str, **spec: Any) -> str:
        answer = api.post(f"/datasets/{id}/previews", json={"base_model": model} | spec)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/datasets/{id}/previews/{answer.json()['id']}"
        assert (answer.json()["state"], answer.json()["rows"], answer.json()["totals"]) == ("pending", [], None)
        return str(answer.headers["location"])

    return post


def refused(api: TestClient, id: str, raw: Any) -> dict[str, str]:
    answer = api.post(f"/datasets/{id}/previews", json=raw)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_spec"), answer.text
    return {error["pointer"]: error["code"] for error in answer.json()["errors"]}


def test_a_preview_of_preferences_shows_both_answers(
    api: TestClient, ask: Post, send: Send, inspect_all: Do, run_all_checks: Do, model: str
) -> None:
    """Preferences need the objective that trains on them, and other rows the other one, as in a job."""
    turns = [{"role": "user", "content": "Is it late?"}]
    row = {
        "input": {"messages": turns},
        "preferred_output": [{"role": "assistant", "content": "yes, alas"}],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
    }
    id, others = send([row, row | {"input": {"messages": [turns[0] | {"content": "When?"}]}}]), send(ROWS)
    url = ask(id, objective="dpo", rows=[2])
    inspect_all()
    assert run_all_checks() == 1
    done = api.get(url).json()
    assert [(shown["line"], shown["answer"]) for shown in done["rows"]] == [(2, "chosen"), (2, "rejected")]
    labelled = ["".join(each["text"] for each in shown["tokens"] if each["labelled"]) for shown in done["rows"]]
    assert [text.split("<")[0] for text in labelled] == ["yes, alas", "no"]
    assert (done["totals"]["num_rows"], done["totals"]["predicted_failure"]) == (2, None)
    assert refused(api, id, {"base_model": model}) == {"": "preference_dataset"}
    assert refused(api, others, {"base_model": model, "objective": "dpo"}) == {"": "not_preference_dataset"}
    errors = refused(api, id, {"base_model": model, "objective": "dpo", "train_on": "all"})
    assert errors == {"": "train_on_with_dpo"}


def test_a_preview_waits_for_the_inspection(
    api: TestClient, ask: Post, send: Send, inspect_all: Do, run_all_checks: Do, sessions: Sessions, project_id: str
) -> None:
    id = send(ROWS)
    url = ask(id, rows=[2, 30], max_seq_len=24)
    with transaction(sessions) as session:
        assert find_light_work(session) == {project_id}, "for the inspection"
    assert run_all_checks() == 0
    inspect_all()
    with transaction(sessions) as session:
        assert DatasetService(session).projects_with_work() == []
        assert find_light_work(session) == {project_id}
    assert run_all_checks() == 1
    done = api.get(url).json()
    assert (done["state"], done["failure"], done["dataset_id"]) == ("ready", None, id)
    assert done["finished_at"] > done["created_at"]
    assert done["spec"]["batch_size"] == 8
    assert [row["line"] for row in done["rows"]] == [2, 30]
    assert done["totals"]["num_rows"] == 30
    assert done["totals"]["device_plan"] == {
        "worker": "here-1",
        "device": "cpu",
        "device_name": "A processor",
        "micro_batch_tokens": 1024,
    }
    first = done["rows"][0]
    assert "".join(token["text"] for token in first["tokens"] if token["labelled"]).startswith("red green")
    [listed] = api.get(f"/datasets/{id}/previews").json()["items"]
    assert listed == {name: value for name, value in done.items() if name != "rows"}
    assert api.get(f"/datasets/{id}/previews", params={"status": "ready"}).json()["items"] == [listed]
    assert api.get(f"/datasets/{id}/previews", params={"state": "pending"}).json()["items"] == []
    with transaction(sessions) as session:
        assert find_light_work(session) == set()


def test_a_bad_spec_is_reported_as_for_a_job(api: TestClient, model: str, send: Send, inspect_all: Do) -> None:
    id = send(ROWS)
    assert refused(api, id, {}) == {"/base_model": "missing"}
    assert refused(api, id, [1]) == {"": "wrong_type"}
    bad = {"base_model": "none", "rows": 21, "max_seq_len": 4, "train_on": "x", "epochs": 1, "batch_size": 0}
    assert refused(api, id, bad) == {
        "/base_model": "model_not_found",
        "/rows": "list_type",
        "/max_seq_len": "greater_than_equal",
        "/train_on": "literal_error",
        "/epochs": "unknown_field",
        "/batch_size": "greater_than_equal",
    }
    assert refused(api, id, {"base_model": model, "rows": [0]}) == {
        "/rows": "int_type",
        "/rows/0": "greater_than_equal",
    }
    assert refused(api, id, {"base_model": model, "max_seq_len": 100_000}) == {"/max_seq_len": "exceeds_model_limit"}
    job = {"base_model": model, "dataset_id": id, "training": {"epochs": 1, "max_seq_len": 100_000}}
    [error] = api.post("/jobs", json=job).json()["errors"]
    assert error["code"] == "exceeds_model_limit"
    worse = send([{"prompt": "a", "completion": ""}])
    inspect_all()
    assert refused(api, worse, {"base_model": model}) == {"": "dataset_invalid"}
    answer = api.post("/datasets/file-" + "0" * 24 + "/previews", json={"base_model": model})
    assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found")
    answer = api.get(f"/datasets/{id}/previews/preview-" + "0" * 24)
    assert (answer.status_code, answer.json()["code"]) == (404, "preview_not_found")


def test_a_dataset_that_turns_out_invalid_fails_its_waiting_preview(
    api: TestClient, ask: Post, send: Send, inspect_all: Do, run_all_checks: Do
) -> None:
    url = ask(send([{"prompt": "a", "completion": ""}]))
    inspect_all()
    assert run_all_checks() == 1
    done = api.get(url).json()
    assert (done["state"], done["failure"]["code"], done["totals"]) == ("failed", "dataset_invalid", None)


def test_an_invalid_dataset_is_previewed_without_its_bad_rows(
    api: TestClient, ask: Post, send: Send, inspect_all: Do, run_all_checks: Do, model: str
) -> None:
    mixed = send([*ROWS[:9], {"prompt": "a", "completion": ""}])
    inspect_all()
    assert refused(api, mixed, {"base_model": model}) == {"": "dataset_invalid"}
    few = {"base_model": model, "on_bad_rows": {"action": "skip", "max_share": 0.05}}
    assert refused(api, mixed, few) == {"": "too_many_bad_rows"}
    url = ask(mixed, on_bad_rows={"action": "skip", "max_share": 0.2})
    run_all_checks()
    totals = api.get(url).json()["totals"]
    assert (totals["num_rows"], totals["skipped_rows"]) == (9, {"no_trainable_text": 1})


@pytest.fixture
def template(
    sessions: Sessions, settings: Settings, model: str, tiny_model: Path, tmp_path: Path
) -> Callable[[str], None]:
    """Give the registered model another chat template."""

    def give(text: str) -> None:
        folder = tmp_path / "templated"
        folder.mkdir()
        for file in tiny_model.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "chat_template.jinja").write_text(text)
        files = register_model(sessions, Storage(settings.storage), "templated", folder).files
        with transaction(sessions) as session:
            session.execute(update(RegisteredModel).values(files=files))

    return give


def test_a_template_that_rejects_a_row_fails_the_preview(
    api: TestClient, ask: Post, send: Send, inspect_all: Do, run_all_checks: Do, template: Callable[[str], None]
) -> None:
    template("{% if messages[0].content == 'a' %}{{ raise_exception('No system turns, please.') }}{% endif %}")
    thought = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
    url, other_url = ask(send(CHAT)), ask(send([{"messages": [{"role": "user", "content": "think"}, thought]}]))
    inspect_all()
    run_all_checks()
    failure = api.get(url).json()["failure"]
    assert api.get(other_url).json()["failure"]["code"] == "reasoning_not_rendered"
    assert failure["code"] == "dataset_invalid"
    assert "Row 1 of the dataset: The chat template rejected the row: No system turns, please." in failure["message"]


def test_a_missing_or_damaged_file_or_model_fails_the_preview(
    api: TestClient, ask: Post, send: Send, inspect_all: Do, run_all_checks: Do, sessions: Sessions, settings: Settings
) -> None:
    id = send(ROWS)
    inspect_all()
    urls = [ask(id)]
    [stored] = [path for path in (settings.data_dir / "storage").rglob(id) if path.is_file()]
    data = stored.read_bytes()
    stored.write_bytes(data[:-1] + b" ")
    run_all_checks()
    stored.unlink()
    urls.append(ask(id))
    run_all_checks()
    stored.write_bytes(data)
    urls.append(ask(id))
    with transaction(sessions) as session:
        model = session.scalars(select(RegisteredModel)).one()
        config = next(file for file in model.files if file["path"] == "tokenizer_config.json")
        model.files = [file for file in model.files if file != config] + [config | {"key": "models/gone"}]
    shutil.rmtree(settings.cache_dir / "models")
    run_all_checks()
    urls.append(ask(id))
    with transaction(sessions) as session:
        session.execute(delete(RegisteredModel))
    run_all_checks()
    codes = [api.get(url).json()["failure"]["code"] for url in urls]
    assert codes == ["file_missing", "file_missing", "model_unusable", "model_not_found"]


@pytest.mark.parametrize(
    ("name", "value", "code"), [("LEAST_CPU_SECONDS", 1, "timed_out"), ("LEAST_MEMORY_BYTES", 2**29, "out_of_memory")]
)
def test_exceeding_a_limit_fails_the_preview(
    api: TestClient,
    ask: Post,
    send: Send,
    inspect_all: Do,
    run_all_checks: Do,
    template: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: int,
    code: str,
) -> None:
    template(SLEEPING if code == "timed_out" else "{{ 'x' * 10**9 }}")
    monkeypatch.setattr(dataset_checks, name, value)
    url = ask(send(CHAT))
    inspect_all()
    assert run_all_checks() == 1
    assert api.get(url).json()["failure"]["code"] == code


def test_only_the_newest_previews_are_kept(api: TestClient, ask: Post, send: Send, sessions: Sessions) -> None:
    id = send(ROWS)
    urls = [ask(id) for _ in range(KEPT + 2)]
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(DatasetCheck)) == KEPT
    assert [api.get(url).status_code for url in urls[:3]] == [404, 404, 200]
    page = api.get(f"/datasets/{id}/previews?limit=15").json()
    rest = api.get(f"/datasets/{id}/previews?limit=15&cursor={page['next_cursor']}").json()
    ids = [item["id"] for item in [*page["items"], *rest["items"]]]
    assert ids == [url.rpartition("/")[2] for url in reversed(urls[2:])]
    assert rest["next_cursor"] is None


def children() -> list[psutil.Process]:
    return running("worker.training.preview")


@pytest.fixture
def running_preview(
    ask: Post, send: Send, inspect_all: Do, template: Callable[[str], None], place: InspectionContext, cache: ModelCache
) -> Any:
    """Begin a preview that never finishes; return its URL, its process and the event that drains the worker."""
    template(SLEEPING)
    url = ask(send(CHAT))
    inspect_all()
    draining = threading.Event()
    thread = threading.Thread(target=run_next_check, args=(place, cache, HERE, draining))
    thread.start()
    while not children():
        time.sleep(0.02)
    yield url, children()[0], draining
    draining.set()
    thread.join(30)
    assert not thread.is_alive()
    assert not children()
    assert not list((place.work / "inspections").glob("preview-*"))


def test_the_process_has_no_credentials_and_no_torch(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "TUNEWRIGHT_API_KEY"):
        monkeypatch.setenv(name, "secret")
    _, process, _ = request.getfixturevalue("running_preview")
    seen = process.environ()
    assert "secret" not in seen.values()
    assert seen.keys() <= {*PASSED_ON, *OWN_VARIABLES, "PYTHONPATH", "LC_CTYPE"}
    while process.rlimit(psutil.RLIMIT_AS)[0] == psutil.RLIM_INFINITY:  # it sets its limits after its imports
        time.sleep(0.02)
    assert process.rlimit(psutil.RLIMIT_CPU)[0] >= dataset_checks.LEAST_CPU_SECONDS
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()


def test_a_crash_of_the_process_fails_the_preview(api: TestClient, running_preview: Any) -> None:
    url, process, _ = running_preview
    process.send_signal(signal.SIGSEGV)
    for _ in range(300):
        if (done := api.get(url).json())["state"] != "pending":
            break
        time.sleep(0.05)
    assert done["failure"]["code"] == "internal_error"
    assert "signal 11" in done["failure"]["message"]


def test_deleting_the_dataset_deletes_the_preview_and_ends_its_process(api: TestClient, running_preview: Any) -> None:
    url, process, _ = running_preview
    dataset = url.rpartition("/previews/")[0]
    assert api.delete(dataset).status_code == 204
    process.wait(10)
    assert api.get(url).json()["code"] == "dataset_not_found"


def test_another_worker_takes_over_a_preview_after_a_drain_or_its_lease(
    running_preview: Any, sessions: Sessions, place: InspectionContext, cache: ModelCache
) -> None:
    _, process, draining = running_preview

    def lease_end() -> datetime | None:
        with transaction(sessions) as session:
            return session.scalars(select(DatasetCheck.leased_until)).one()

    def wait_until(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.02)

    first = lease_end()
    assert first is not None
    wait_until(lambda: (lease_end() or first) > first)
    assert not run_next_check(place, cache, HERE), "the preview is still leased"
    draining.set()
    process.wait(10)
    wait_until(lambda: lease_end() is None)
    with transaction(sessions) as session:
        session.execute(update(DatasetCheck).values(leased_until=func.clock_timestamp()))
        missing = {"path": "tokenizer.json", "key": "models/gone", "size": 1, "sha256": "0" * 64}
        session.execute(update(RegisteredModel).values(files=[missing]))
        assert session.scalars(select(Dataset.state)).one() == "ready"
    assert run_next_check(place, cache, HERE)


def test_a_preview_is_planned_for_an_online_worker_with_a_gpu() -> None:
    cpu, gpu = (
        dataset_checks.PlanMachine(worker=device, device=device, device_name=None) for device in ("cpu", "cuda")
    )
    assert dataset_checks._choose_machine([cpu, gpu], "auto", HERE) == gpu
    assert dataset_checks._choose_machine([cpu, gpu], "cpu", HERE) == cpu
    assert dataset_checks._choose_machine([cpu], "cuda", HERE) == dataset_checks.PlanMachine(
        worker="here-1", device="cuda", device_name=None
    )
    assert dataset_checks._choose_machine([], "auto", HERE).device_name == "A processor"

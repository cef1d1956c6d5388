"""Creates what Schemathesis' requests name, by noun: random ids find nothing."""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

import httpx2

MOST_SECONDS: Final = 300.0
ROWS: Final = "".join(json.dumps({"prompt": f"p {n}", "completion": f" c {n}"}) + "\n" for n in range(8)).encode()
PAIRS: Final = (
    "".join(json.dumps({"prompt": f"p {n}", "chosen": f" c {n}", "rejected": f" r {n}"}) + "\n" for n in range(8))
).encode()
TRAINING: Final = {"max_steps": 2, "batch_size": 2, "save_every": 1}
TOO_MUCH: Final = {"min_memory_gb": 10_000}
"""More than any worker has: a job that needs it waits, and can be paused, resumed and cancelled."""
RANGES: Final = ["bytes=0-9", "bytes=-5", "bytes=20-", "bytes=99999999-"]

UNFINISHED: Final = ("queued", "running", "pausing", "paused")

Supply = dict[str, list[str]]


def make_supply(http: httpx2.Client, receiver: str, num: int, num_disposable: int) -> Supply:
    """Create `num` values of each noun, and disposable ones to use up. `receiver` accepts webhooks."""
    datasets = [upload(http, ROWS) for _ in range(num)]
    supply = {
        "datasets": [*datasets, upload(http, PAIRS)],
        "disposable_datasets": [upload(http, ROWS) for _ in range(num_disposable)],
        "models": ["tiny"],
        "receivers": [receiver],
        "ranges": RANGES,
        "waiting_jobs": [post_job(http, datasets[0], TOO_MUCH) for _ in range(num)],
        "disposable_waiting_jobs": [post_job(http, datasets[0], TOO_MUCH) for _ in range(num_disposable)],
        "disposable_jobs": [post_job(http, datasets[0], TOO_MUCH) for _ in range(num_disposable)],
    }
    for job in supply["disposable_jobs"]:
        ask(http, "POST", f"/jobs/{job}/cancel")
    supply |= make_uploads(http, num, num_disposable)
    return supply | make_results(http, datasets, num_disposable) | make_webhooks(http, receiver, num, num_disposable)


def make_uploads(http: httpx2.Client, num: int, num_disposable: int) -> Supply:
    """Create pending uploads; the one in `whole_uploads` has all its bytes."""
    begun = [
        ask(http, "POST", "/uploads", json={"bytes": len(ROWS), "filename": "rows.jsonl"})["id"]
        for _ in range(1 + num + num_disposable)
    ]
    octets = {"Content-Type": "application/octet-stream"}
    part = ask(http, "POST", f"/uploads/{begun[0]}/parts", content=ROWS, headers=octets)["id"]
    return {
        "whole_uploads": begun[:1],
        "parts": [part],
        "uploads": begun[1 : num + 1],
        "disposable_uploads": begun[num + 1 :],
    }


def make_results(http: httpx2.Client, datasets: Sequence[str], num_disposable: int) -> Supply:
    """Create trained jobs with their results, and a dataset with a preview and an overlap."""
    trained = [post_job(http, dataset) for dataset in datasets]
    disposable = [post_job(http, datasets[0]) for _ in range(num_disposable)]
    dataset = upload(http, ROWS)
    base = f"/datasets/{dataset}"
    preview = ask(http, "POST", f"{base}/previews", json={"base_model": "tiny"})["id"]
    overlap = ask(http, "POST", f"{base}/overlaps", json={"validation_dataset_id": datasets[-1]})["id"]
    for job in (*trained, *disposable):
        wait(http, f"/jobs/{job}", "state", {"succeeded"})
    for kind, id in (("previews", preview), ("overlaps", overlap)):
        wait(http, f"{base}/{kind}/{id}", "state", {"ready"})
    checkpoints = items(http, f"/jobs/{trained[0]}/checkpoints")
    adapters = [ask(http, "GET", f"/jobs/{job}")["adapter_id"] for job in trained]
    openai = [ask(http, "GET", f"/v1/fine_tuning/jobs/{job}") for job in (*trained, *disposable)]
    names = [job["fine_tuned_model"] for job in openai[: len(trained)]]
    return {
        "jobs": trained,
        "adapters": adapters,
        "disposable_adapters": [ask(http, "GET", f"/jobs/{job}")["adapter_id"] for job in disposable],
        "adapter_files": [file["path"] for file in ask(http, "GET", f"/adapters/{adapters[0]}")["files"]],
        "artifacts": [artifact["id"] for job in trained for artifact in items(http, f"/jobs/{job}/artifacts")],
        "files": [*datasets, *(file for job in openai[: len(trained)] for file in job["result_files"])],
        "checked_datasets": [dataset],
        "previews": [preview],
        "overlaps": [overlap],
        "first_jobs": [trained[0]],
        "checkpoints": [each["id"] for each in checkpoints],
        "events": [each["id"] for each in ask(http, "GET", f"/v1/fine_tuning/jobs/{trained[0]}/events")["data"]],
        "named_models": ["tiny", *names, *(each["name"] for each in checkpoints)],
        "disposable_models": [job["fine_tuned_model"] for job in openai[len(trained) :]],
        "starts": [*adapters, *names, *(each["id"] for each in checkpoints)],
    }


def make_webhooks(http: httpx2.Client, receiver: str, num: int, num_disposable: int) -> Supply:
    """Create webhooks; the one in `first_webhooks` has deliveries."""
    hooks = [ask(http, "POST", "/webhooks", json={"url": receiver})["id"] for _ in range(num + num_disposable + 1)]
    tests = [ask(http, "POST", f"/webhooks/{hooks[0]}/test")["id"] for _ in range(num)]
    for id in tests:
        wait(http, f"/webhooks/{hooks[0]}/deliveries/{id}", "state", {"delivered"})
    return {
        "webhooks": hooks[:num],
        "changing_webhooks": hooks[num : num + 1],
        "disposable_webhooks": hooks[num + 1 :],
        "first_webhooks": hooks[:1],
        "deliveries": tests,
    }


def make_projects(http: httpx2.Client, num: int, num_disposable: int) -> Supply:
    """Create projects; the key must be an administrator's."""
    names = [f"fuzz-{number}" for number in range(2 * num + num_disposable)]
    ids = [ask(http, "POST", "/projects", json={"name": name})["id"] for name in names]
    for id in ids[:num]:
        ask(http, "DELETE", f"/projects/{id}")
    return {"deleted_projects": ids[:num], "projects": ids[num : 2 * num], "disposable_projects": ids[2 * num :]}


def make_keys(http: httpx2.Client, num: int, num_disposable: int) -> Supply:
    """Create keys in the project of the client's key, which must be an administrator's."""
    ids = [ask(http, "POST", "/keys", json={"name": f"fuzz-{number}"})["id"] for number in range(num + num_disposable)]
    return {"keys": ids[:num], "disposable_keys": ids[num:]}


def upload(http: httpx2.Client, data: bytes) -> str:
    id: str = ask(http, "POST", "/datasets", files={"file": ("rows.jsonl", data)})["id"]
    return id


def post_job(http: httpx2.Client, dataset: str, resources: dict[str, int] | None = None) -> str:
    """Create a job that is claimed before all others."""
    spec = {"base_model": "tiny", "dataset_id": dataset, "method": "lora", "training": TRAINING, "priority": 100}
    id: str = ask(http, "POST", "/jobs", json=spec | {"resources": resources or {}})["id"]
    return id


def cancel_all(http: httpx2.Client) -> None:
    """Cancel every job of the project that has not ended."""
    for state in UNFINISHED:
        while jobs := items(http, f"/jobs?limit=100&state={state}"):
            for job in jobs:
                http.post(f"/jobs/{job['id']}/cancel")


def wait(http: httpx2.Client, path: str, field: str, wanted: set[str]) -> None:
    until = time.monotonic() + MOST_SECONDS
    while (found := ask(http, "GET", path)[field]) not in wanted:
        assert found not in {"failed", "invalid", "cancelled"}, f"{path} is {found}"
        assert time.monotonic() < until, f"{path} is still {found}"
        time.sleep(0.1)


def items(http: httpx2.Client, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(http, "GET", path)["items"]
    return found


def ask(http: httpx2.Client, method: str, path: str, **sent: Any) -> dict[str, Any]:
    answer = http.request(method, path, **sent)
    assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
    body: dict[str, Any] = answer.json()
    return body

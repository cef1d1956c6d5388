"""Real things for Schemathesis to ask for, by noun: random ids find nothing."""

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
"""No worker has so much: a job that wants it waits, and can be paused, resumed and cancelled."""
RANGES: Final = ["bytes=0-9", "bytes=-5", "bytes=20-", "bytes=99999999-"]

UNFINISHED: Final = ("queued", "running", "pausing", "paused")

Supply = dict[str, list[str]]


def make_supply(http: httpx2.Client, receiver: str, num: int, num_spare: int) -> Supply:
    """`num` of each noun, and so many `spare_…` to use up. `receiver` takes webhooks."""
    datasets = [upload(http, ROWS) for _ in range(num)]
    supply = {
        "datasets": [*datasets, upload(http, PAIRS)],
        "spare_datasets": [upload(http, ROWS) for _ in range(num_spare)],
        "models": ["tiny"],
        "receivers": [receiver],
        "ranges": RANGES,
        "waiting_jobs": [post_job(http, datasets[0], TOO_MUCH) for _ in range(num)],
        "spare_waiting_jobs": [post_job(http, datasets[0], TOO_MUCH) for _ in range(num_spare)],
        "spare_jobs": [post_job(http, datasets[0], TOO_MUCH) for _ in range(num_spare)],
    }
    for job in supply["spare_jobs"]:
        ask(http, "POST", f"/jobs/{job}/cancel")
    supply |= make_uploads(http, num, num_spare)
    return supply | make_results(http, datasets, num_spare) | make_webhooks(http, receiver, num, num_spare)


def make_uploads(http: httpx2.Client, num: int, num_spare: int) -> Supply:
    """Pending ones; of the first, `whole_uploads`, all bytes are there."""
    begun = [
        ask(http, "POST", "/uploads", json={"bytes": len(ROWS), "filename": "rows.jsonl"})["id"]
        for _ in range(1 + num + num_spare)
    ]
    octets = {"Content-Type": "application/octet-stream"}
    part = ask(http, "POST", f"/uploads/{begun[0]}/parts", content=ROWS, headers=octets)["id"]
    return {
        "whole_uploads": begun[:1],
        "parts": [part],
        "uploads": begun[1 : num + 1],
        "spare_uploads": begun[num + 1 :],
    }


def make_results(http: httpx2.Client, datasets: Sequence[str], num_spare: int) -> Supply:
    """Trained jobs and all that came of them, and what was asked of a dataset."""
    trained = [post_job(http, dataset) for dataset in datasets]
    spare = [post_job(http, datasets[0]) for _ in range(num_spare)]
    dataset = upload(http, ROWS)
    base = f"/datasets/{dataset}"
    preview = ask(http, "POST", f"{base}/previews", json={"base_model": "tiny"})["id"]
    overlap = ask(http, "POST", f"{base}/overlaps", json={"validation_dataset_id": datasets[-1]})["id"]
    for job in (*trained, *spare):
        wait(http, f"/jobs/{job}", "state", {"succeeded"})
    for kind, id in (("previews", preview), ("overlaps", overlap)):
        wait(http, f"{base}/{kind}/{id}", "state", {"ready"})
    checkpoints = items(http, f"/jobs/{trained[0]}/checkpoints")
    adapters = [ask(http, "GET", f"/jobs/{job}")["adapter_id"] for job in trained]
    openai = [ask(http, "GET", f"/v1/fine_tuning/jobs/{job}") for job in (*trained, *spare)]
    names = [job["fine_tuned_model"] for job in openai[: len(trained)]]
    return {
        "jobs": trained,
        "adapters": adapters,
        "spare_adapters": [ask(http, "GET", f"/jobs/{job}")["adapter_id"] for job in spare],
        "adapter_files": [file["path"] for file in ask(http, "GET", f"/adapters/{adapters[0]}")["files"]],
        "artifacts": [artifact["id"] for job in trained for artifact in items(http, f"/jobs/{job}/artifacts")],
        "files": [*datasets, *(file for job in openai[: len(trained)] for file in job["result_files"])],
        "studied_datasets": [dataset],
        "previews": [preview],
        "overlaps": [overlap],
        "first_jobs": [trained[0]],
        "checkpoints": [each["id"] for each in checkpoints],
        "events": [each["id"] for each in ask(http, "GET", f"/v1/fine_tuning/jobs/{trained[0]}/events")["data"]],
        "named_models": ["tiny", *names, *(each["name"] for each in checkpoints)],
        "spare_models": [job["fine_tuned_model"] for job in openai[len(trained) :]],
        "starts": [*adapters, *names, *(each["id"] for each in checkpoints)],
    }


def make_webhooks(http: httpx2.Client, receiver: str, num: int, num_spare: int) -> Supply:
    """`first_webhooks` has told something."""
    hooks = [ask(http, "POST", "/webhooks", json={"url": receiver})["id"] for _ in range(num + num_spare + 1)]
    tests = [ask(http, "POST", f"/webhooks/{hooks[0]}/test")["id"] for _ in range(num)]
    for id in tests:
        wait(http, f"/webhooks/{hooks[0]}/deliveries/{id}", "state", {"delivered"})
    return {
        "webhooks": hooks[:num],
        "changing_webhooks": hooks[num : num + 1],
        "spare_webhooks": hooks[num + 1 :],
        "first_webhooks": hooks[:1],
        "deliveries": tests,
    }


def make_projects(http: httpx2.Client, num: int, num_spare: int) -> Supply:
    """By their ids; the key must be an administrator's."""
    names = [f"fuzz-{number}" for number in range(2 * num + num_spare)]
    ids = [ask(http, "POST", "/projects", json={"name": name})["id"] for name in names]
    for id in ids[:num]:
        ask(http, "DELETE", f"/projects/{id}")
    return {"deleted_projects": ids[:num], "projects": ids[num : 2 * num], "spare_projects": ids[2 * num :]}


def make_keys(http: httpx2.Client, num: int, num_spare: int) -> Supply:
    """Of the project of the key that asks, which must be an administrator's."""
    ids = [ask(http, "POST", "/keys", json={"name": f"fuzz-{number}"})["id"] for number in range(num + num_spare)]
    return {"keys": ids[:num], "spare_keys": ids[num:]}


def upload(http: httpx2.Client, data: bytes) -> str:
    id: str = ask(http, "POST", "/datasets", files={"file": ("rows.jsonl", data)})["id"]
    return id


def post_job(http: httpx2.Client, dataset: str, resources: dict[str, int] | None = None) -> str:
    """Claimed before all others."""
    spec = {"base_model": "tiny", "dataset_id": dataset, "method": "lora", "training": TRAINING, "priority": 100}
    id: str = ask(http, "POST", "/jobs", json=spec | {"resources": resources or {}})["id"]
    return id


def cancel_all(http: httpx2.Client) -> None:
    """Every job of the project that has not ended."""
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
    told: dict[str, Any] = answer.json()
    return told

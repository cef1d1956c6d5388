"""Real things for Schemathesis to ask for, and the configuration that names them: random ids find nothing."""

import json
from pathlib import Path

from tests.acceptance.conftest import Stack

NUM_JOBS = 6
SHARE = 0.8
"""Of the requests that name something real; the others name what the document allows."""
TAKING = ["GET", "POST"]
"""What is deleted is drawn from the document alone, or soon nothing would be left."""


def make_supply(stack: Stack, folder: Path) -> dict[str, list[str]]:
    """Names of datasets, of finished jobs and of what came of them, by noun."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"p {n}", "completion": f" c {n}"}) + "\n" for n in range(8)))
    training = {"max_steps": 2, "batch_size": 2, "save_every": 1}
    with stack.client() as client:
        datasets = [client.upload_dataset(rows).id for _ in range(NUM_JOBS)]
        jobs = [
            client.create_job(base_model="tiny", dataset_id=dataset, method="lora", training=training).id
            for dataset in datasets
        ]
        for job in jobs:
            assert client.wait(job).state == "succeeded"
        return {
            "datasets": datasets,
            "jobs": jobs,
            "adapters": [str(client.get_job(job).adapter_id) for job in jobs],
            "artifacts": [artifact.id for job in jobs for artifact in client.artifacts(job)],
            "models": ["tiny"],
        }


def configure(supply: dict[str, list[str]], path: Path) -> Path:
    """Write what Schemathesis reads."""
    lines = [f"[dictionaries.{noun}]\nvalues = {json.dumps(names)}\n" for noun, names in supply.items()]
    for pattern, parameters in (
        ("^/datasets/", {"path.id": "datasets", "body.validation_dataset_id": "datasets", "body.base_model": "models"}),
        ("^/jobs/", {"path.id": "jobs"}),
        ("^/jobs$", {"body.dataset_id": "datasets", "body.base_model": "models"}),
        ("^/adapters/", {"path.id": "adapters"}),
        ("^/artifacts/", {"path.id": "artifacts"}),
        ("^/models/", {"path.name": "models", "path.model": "models"}),
        ("^/files/", {"path.file_id": "datasets"}),
        ("^/fine_tuning/jobs/", {"path.fine_tuning_job_id": "jobs"}),
        ("^/fine_tuning/jobs$", {"body.training_file": "datasets", "body.model": "models"}),
    ):
        bound = ", ".join(
            f'"{name}" = {{ dictionary = "{noun}", probability = {SHARE} }}' for name, noun in parameters.items()
        )
        lines.append(
            f"[[operations]]\ninclude-path-regex = {json.dumps(pattern)}\ninclude-method = {json.dumps(TAKING)}\n"
            f"parameters = {{ {bound} }}\n"
        )
    path.write_text("\n".join(lines), encoding="utf-8")
    return path

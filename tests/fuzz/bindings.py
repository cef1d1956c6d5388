"""Writes Schemathesis' configuration: which parameters of an operation take values from which noun of the supply."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.fuzz.supply import Supply

SHARE: Final = 0.8
"""Share of requests that name something that exists; the others name what the document allows."""
SHARES: Final = {"ranges": 0.4, "starts": 0.2}
STEPS: Final = 20
"""Maximum from the first answer of a scenario to the last request that follows from it."""

Rules = Sequence[tuple[str, Mapping[str, str]]]
NATIVE: Final[Rules] = (
    (r"\w+ /datasets/{id}", {"path.id": "datasets"}),
    (r"DELETE /datasets/{id}", {"path.id": "disposable_datasets"}),
    (r"POST .*/previews", {"body.base_model": "models"}),
    (r"POST .*/overlaps", {"body.validation_dataset_id": "datasets"}),
    (r"GET .*/previews/{preview_id}", {"path.id": "checked_datasets", "path.preview_id": "previews"}),
    (r"GET .*/overlaps/{overlap_id}", {"path.id": "checked_datasets", "path.overlap_id": "overlaps"}),
    (r"\w+ /uploads/{id}", {"path.id": "uploads"}),
    (r"POST /uploads/{id}/complete", {"path.id": "whole_uploads", "body.part_ids[*]": "parts"}),
    (r"POST /uploads/{id}/cancel", {"path.id": "disposable_uploads"}),
    (r"POST /jobs$", {"body.base_model": "models", "body.dataset_id": "datasets", "body.init_from": "starts"}),
    (r"\w+ /jobs/{id}", {"path.id": "jobs"}),
    (r"POST /jobs/{id}/(pause|resume)", {"path.id": "waiting_jobs"}),
    (r"POST /jobs/{id}/cancel", {"path.id": "disposable_waiting_jobs"}),
    (r"DELETE /jobs/{id}", {"path.id": "disposable_jobs"}),
    (r"GET .*/checkpoints/{checkpoint_id}", {"path.id": "first_jobs", "path.checkpoint_id": "checkpoints"}),
    (r"GET /artifacts/{id}", {"path.id": "artifacts"}),
    (r"GET /adapters/{id}", {"path.id": "adapters"}),
    (r"GET /adapters/{id}/files", {"path.path": "adapter_files"}),
    (r"DELETE /adapters/{id}", {"path.id": "disposable_adapters"}),
    (r"GET .*/(content|archive|files/{path})", {"header.Range": "ranges"}),
    (r"GET /models/{name}", {"path.name": "models"}),
    (r"(POST|PATCH) /webhooks", {"body.url": "receivers"}),
    (r"\w+ /webhooks/{id}", {"path.id": "webhooks"}),
    (r"PATCH /webhooks/{id}", {"path.id": "changing_webhooks"}),
    (r"DELETE /webhooks/{id}", {"path.id": "disposable_webhooks"}),
    (r"\w+ .*/deliveries/{delivery_id}", {"path.id": "first_webhooks", "path.delivery_id": "deliveries"}),
)
PROJECTS: Final[Rules] = (
    (r"\w+ /projects/{id}", {"path.id": "projects"}),
    (r"DELETE /projects/{id}", {"path.id": "disposable_projects"}),
    (r"GET /projects/{id}/deletion", {"path.id": "deleted_projects"}),
    (r"POST /keys$", {"body.project": "projects"}),
    (r"GET /keys$", {"query.project": "projects"}),
    (r"\w+ /keys/{id}", {"path.id": "keys"}),
    (r"POST /keys/{id}/rotate", {"path.id": "disposable_keys"}),
)
OPENAI: Final[Rules] = (
    (r"GET /files$", {"query.after": "files"}),
    (r"GET /files/{file_id}", {"path.file_id": "files"}),
    (r"GET /files/{file_id}/content", {"header.Range": "ranges"}),
    (r"DELETE /files/{file_id}", {"path.file_id": "disposable_datasets"}),
    (r"POST /uploads/{upload_id}/parts", {"path.upload_id": "uploads"}),
    (r"POST /uploads/{upload_id}/complete", {"path.upload_id": "whole_uploads", "body.part_ids[*]": "parts"}),
    (r"POST /uploads/{upload_id}/cancel", {"path.upload_id": "disposable_uploads"}),
    (r"GET /models/{model}", {"path.model": "named_models"}),
    (r"DELETE /models/{model}", {"path.model": "disposable_models"}),
    (r"POST /fine_tuning/jobs$", {"body.model": "named_models", "body.training_file": "datasets"}),
    (r"GET /fine_tuning/jobs$", {"query.after": "jobs"}),
    (r"\w+ /fine_tuning/jobs/{fine_tuning_job_id}", {"path.fine_tuning_job_id": "jobs"}),
    (r"POST .*/(pause|resume)", {"path.fine_tuning_job_id": "waiting_jobs"}),
    (r"POST .*/jobs/.*/cancel", {"path.fine_tuning_job_id": "disposable_waiting_jobs"}),
    (r"GET .*/events", {"path.fine_tuning_job_id": "first_jobs", "query.after": "events"}),
    (r"GET .*/checkpoints", {"path.fine_tuning_job_id": "first_jobs", "query.after": "checkpoints"}),
)


def configure(rules: Rules, document: Mapping[str, Any], supply: Supply, path: Path) -> Path:
    """Write the configuration. If several rules match an operation, the later ones win."""
    lines = [f"[phases.stateful]\nmax-steps = {STEPS}\n"]
    lines += [f"[dictionaries.{noun}]\nvalues = {json.dumps(names)}\n" for noun, names in supply.items() if names]
    names = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods]
    for pattern, _ in rules:
        assert any(re.match(pattern, name) for name in names), f"no operation matches {pattern}"
    for name in names:
        bound = {
            key: noun
            for pattern, nouns in rules
            if re.match(pattern, name)
            for key, noun in nouns.items()
            if supply[noun]
        }
        written = ", ".join(
            f'"{key}" = {{ dictionary = "{noun}", probability = {share_of(noun)} }}' for key, noun in bound.items()
        )
        if bound:
            lines.append(f"[[operations]]\ninclude-name = {json.dumps(name)}\nparameters = {{ {written} }}\n")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def share_of(noun: str) -> float:
    """Return the probability of a noun. Requests that use something up name disposable values only."""
    return 1.0 if noun.startswith("disposable_") else SHARES.get(noun, SHARE)

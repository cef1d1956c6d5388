"""Writes the result folder: files in PEFT's format, a manifest and a model card."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from app.domain.jobs.resuming import InexactResume
from app.failpoints import around
from app.files import sync_folder
from worker.training.checkpoint.checkpoint import Position, on_cpu
from worker.training.checkpoint.manifest import digests
from worker.training.checkpoint.train_state import Evaluation
from worker.training.loop.usage import describe_usage
from worker.training.model.adapter_file import WEIGHTS as ADAPTER
from worker.training.model.adapter_file import AdapterConverter
from worker.training.model.device import library_versions
from worker.training.model.loading import Model
from worker.training.model.memory_plan import DTYPES
from worker.training.runtime.messages import TrainingRequest


@dataclass(frozen=True)
class Outcome:
    """Holds what the manifest and the card describe."""

    request: TrainingRequest
    resolved: dict[str, Any]
    position: Position
    inexact_resumes: Sequence[InexactResume]
    result_step: int
    """Is the step that the weights come from."""
    validation: Evaluation | None
    """Is the evaluation of that step."""
    chat_template: str | None
    turn_ends: frozenset[int]
    eos: int
    tokenizer: Path
    """Is the folder of the tokenizer's files."""


def publish(model: Model, outcome: Outcome) -> Path:
    folder = outcome.request.work_dir / "result"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if (adapter := AdapterConverter.of(model, outcome.request)) is not None:
        adapter.write_config(folder)
        weights = adapter.to_file(on_cpu(model.trainable))
        save_file(weights, folder / f"{ADAPTER}.safetensors", metadata={"format": "pt"})
    else:
        _save_model(model, outcome.request.base_model_path, folder)
    shutil.copytree(outcome.tokenizer, folder, dirs_exist_ok=True)
    _name_turn_ends(outcome, outcome.eos, folder)
    _write_card(outcome, folder)
    with around("complete_result"):
        _write_manifest(outcome, folder)
        sync_folder(folder)
    return folder


def publish_reports(work_dir: Path, write: Callable[[Path], None]) -> Path:
    """Create the folder of reports on the training's rows, which `write` fills. It is not part of the result, which
    goes to the model's users."""
    folder = work_dir / "reports"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with around("complete_reports"):
        write(folder)
        sync_folder(folder)
    return folder


def _save_model(model: Model, base: Path, folder: Path) -> None:
    """Save the model in the base's precision, with the base's config."""
    dtype = _stored_dtype(base)
    model.causal.to(dtype)
    model.causal.save_pretrained(folder)
    shutil.copyfile(base / "config.json", folder / "config.json")
    if (base / "generation_config.json").exists():
        shutil.copyfile(base / "generation_config.json", folder / "generation_config.json")


def _name_turn_ends(outcome: Outcome, eos: int, folder: Path) -> None:
    """Add the token that ends a turn to the EOS tokens where the chat template uses another: generation must stop
    there."""
    if outcome.turn_ends <= {eos}:
        return
    path = folder / "generation_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(config | {"eos_token_id": sorted(outcome.turn_ends | {eos})}, indent=2) + "\n")


def _stored_dtype(base: Path) -> torch.dtype:
    config = json.loads((base / "config.json").read_text())
    name = config.get("dtype") or config.get("torch_dtype") or config.get("text_config", {}).get("dtype")
    return DTYPES.get(name, torch.float32)


def _evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    return {"step": evaluation.step, **evaluation.values()}


def _write_manifest(outcome: Outcome, folder: Path) -> None:
    request, position = outcome.request, outcome.position
    manifest = {
        "manifest_version": 1,
        "base_model": {
            "name": request.base_model,
            "hub": request.base_model_hub,
            "revision": request.base_model_revision,
            "hub_name": request.base_model_hub_name,
            "hub_revision": request.base_model_hub_revision,
        },
        "dataset_sha256": request.dataset_sha256,
        "validation_sha256": request.validation_sha256,
        "spec": (request.spec_as_sent or request.spec).model_dump(mode="json"),
        "resolved": outcome.resolved,
        "libraries": library_versions(),
        "seed": request.spec.training.seed,
        "num_steps": position.step,
        "result_step": outcome.result_step,
        "num_tokens": position.num_tokens,
        "exact": not outcome.inexact_resumes,
        "inexact_resumes": [each.model_dump(mode="json") for each in outcome.inexact_resumes],
        "first_loss": position.first_loss,
        "final_loss": position.last_loss,
        "validation": _evaluation_to_json(outcome.validation) if outcome.validation else None,
        "chat_template": outcome.chat_template,
        "files": digests(folder),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _write_card(outcome: Outcome, folder: Path) -> None:
    request = outcome.request
    method = request.spec.method
    tags = ["tunewright", request.spec.objective, *dict.fromkeys([method, "lora" if method == "qlora" else method])]
    front = [
        f"base_model: {json.dumps(request.base_address[0] if request.base_address else request.base_model)}",
        f"library_name: {'transformers' if method == 'full' else 'peft'}",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    title = " ".join((request.spec.name or request.spec.suffix or f"Fine-tuned {request.base_model}").split())
    table = [f"| {name} | {value} |" for name, value in _card_rows(outcome)]
    about = "Trained with Tunewright. `manifest.json` lists all settings and digests."
    lines = [
        "---",
        *front,
        "---",
        "",
        f"# {title}",
        "",
        about,
        "",
        "| | |",
        "| --- | --- |",
        *table,
        "",
        *describe_usage(request),
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _card_rows(outcome: Outcome) -> list[tuple[str, str]]:
    request, position, training = outcome.request, outcome.position, outcome.request.spec.training
    adapter, validation = request.spec.adapter, outcome.validation
    base, revision = request.base_address or (request.base_model, request.base_model_revision)
    address = f"{base} ({revision})" if revision else base
    licence = request.base_model_license or "not stated; see the source of the model"
    rows = [("Base model", address + (", not verified" if request.base_model_hub_name else ""))]
    if request.base_address:
        rows.append(("Name in Tunewright", request.base_model))
    rows.append(("License of the base model", licence))
    rows.append(("Method", request.spec.method))
    if request.spec.dpo:
        rows.append(("Objective", f"dpo, beta {request.spec.dpo.beta:g}"))
    if adapter:
        kind = ("rsLoRA" if adapter.use_rslora else "LoRA") + (" with DoRA" if adapter.use_dora else "")
        start = request.spec.init_from or adapter.init
        rows.append(("Adapter", f"{kind}, rank {adapter.rank}, alpha {adapter.lora_alpha:g}, init {start}"))
    return [
        *rows,
        ("Steps", f"{position.step:,}"),
        ("Step of the weights", f"{outcome.result_step:,}"),
        ("Tokens", f"{position.num_tokens:,}"),
        ("Batch size", f"{training.batch_size:,}"),
        ("Learning rate", f"{training.learning_rate}, {training.schedule}"),
        ("Seed", str(training.seed)),
        ("First loss", _format_number(position.first_loss)),
        ("Final loss", _format_number(position.last_loss)),
        ("Validation loss", _format_number(validation.loss if validation else None)),
        *_accuracy(validation, request.spec.objective),
        ("Chat template", outcome.chat_template or "none"),
        ("Dataset SHA-256", f"`{request.dataset_sha256}`"),
    ]


def _accuracy(validation: Evaluation | None, objective: str) -> list[tuple[str, str]]:
    if objective == "dpo":
        return [("Validation reward accuracy", _format_number(validation.reward_accuracy if validation else None))]
    return [("Validation token accuracy", _format_number(validation.token_accuracy if validation else None))]


def _format_number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"

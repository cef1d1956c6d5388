"""Enters base models as rows: their files are not needed for anything that the page shows."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.db.tables import RegisteredModel
from app.domain.ids import new_id
from app.domain.model import ModelFailure, ModelState

LAYER = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
         "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
READY: tuple[tuple[str, str, str, str, int, int, int], ...] = (
    ("gemma-3-270m", "google/gemma-3-270m", "gemma", "Gemma3ForCausalLM", 268_098_176, 32_768, 18),
    ("gemma-3-4b", "google/gemma-3-4b-it", "gemma", "Gemma3ForCausalLM", 3_880_099_328, 131_072, 34),
    ("qwen3-1.7b", "Qwen/Qwen3-1.7B", "apache-2.0", "Qwen3ForCausalLM", 1_720_574_976, 40_960, 28),
    ("qwen3-4b", "Qwen/Qwen3-4B", "apache-2.0", "Qwen3ForCausalLM", 4_022_468_096, 40_960, 36),
    ("llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct", "llama3.1", "LlamaForCausalLM", 8_030_261_248,
     131_072, 32),
    ("llama-3.3-70b-instruct", "meta-llama/Llama-3.3-70B-Instruct", "llama3.3", "LlamaForCausalLM", 70_553_706_496,
     131_072, 80),
)  # fmt: skip
"""Lists name, id on the hub, licence, architecture, parameters, longest row and layers."""
PARAMETERS = {name: parameters for name, _, _, _, parameters, _, _ in READY}
HUB_NAMES = {name: hub for name, hub, *_ in READY}


def revision_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:40]


def add_models(session: Session, now: datetime) -> None:
    for place, model in enumerate(READY):
        session.add(ready_model(model, now - timedelta(days=40 - 5 * place)))
    add_unready_models(session, now)


def ready_model(model: tuple[str, str, str, str, int, int, int], created_at: datetime) -> RegisteredModel:
    name, hub, license, architecture, num_parameters, max_seq_len, num_layers = model
    num_bytes = 2 * num_parameters + 17_209_920
    return RegisteredModel(
        id=new_id("model"), name=name, state=ModelState.ready, source=hub, wanted_revision="main",
        revision=revision_of(name), num_bytes_done=num_bytes, num_bytes=num_bytes, license=license,
        architecture=architecture, num_parameters=num_parameters, max_seq_len=max_seq_len,
        linear_modules=[f"model.layers.{layer}.{part}" for layer in range(num_layers) for part in LAYER],
        config={"model_type": architecture.removesuffix("ForCausalLM").lower()}, created_at=created_at,
        finished_at=created_at + timedelta(seconds=num_bytes / 95e6),
    )  # fmt: skip


def add_unready_models(session: Session, now: datetime) -> None:
    """Add a model that is being fetched, by a worker of the demonstration, and one that failed."""
    fetching: dict[str, Any] = {"attempt": 1, "leased_until": now + timedelta(days=365), "worker_id": "helios-3-871"}
    session.add(
        RegisteredModel(
            id=new_id("model"), name="mistral-small-24b", state=ModelState.fetching,
            source="mistralai/Mistral-Small-24B-Instruct-2501", wanted_revision="main",
            revision=revision_of("mistral-small-24b"), num_bytes_done=17_304_633_344, num_bytes=47_153_517_056,
            created_at=now - timedelta(minutes=4), **fetching,
        )
    )  # fmt: skip
    session.add(
        RegisteredModel(
            id=new_id("model"), name="gemma-3-27b", state=ModelState.failed, source="google/gemma-3-27b-it",
            wanted_revision="main", failure_code=ModelFailure.access_denied,
            failure_message="The hub refused access to google/gemma-3-27b-it: the repository is gated. Accept its "
            "terms with the account of the worker's HF_TOKEN, then add the model again.",
            created_at=now - timedelta(days=2), finished_at=now - timedelta(days=2),
        )
    )  # fmt: skip

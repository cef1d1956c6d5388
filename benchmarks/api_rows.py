"""Creates the jobs for the API benchmark over HTTP, and marks half of them as running in the database."""

from typing import Any, NamedTuple

import httpx2
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.db.session import open_sessions, transaction
from app.db.tables import Dataset, RegisteredModel
from app.domain.ids import new_id

MODEL = "gemma-3-270m"
OF_EACH = 25
MODULES = [f"model.layers.{layer}.{part}" for layer in range(18) for part in (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
    "mlp.down_proj")]  # fmt: skip
RUN = """
UPDATE jobs SET state = 'running', phase = 'training', attempt = 1, worker_id = 'bench-1', claim_token = 'x',
    lease_until = now() + interval '1 day', step = 120, total_steps = 400, started_at = now(),
    estimated_finish_at = now() + interval '1 hour',
    last_metrics = '{"loss": 1.8731, "grad_norm": 0.8125, "learning_rate": 0.00019, "tokens_per_second": 1204.5,
        "num_tokens": 96310, "epoch": 0.6, "peak_memory_bytes": 1204224000}'
WHERE id = ANY(:ids)
"""
ATTEMPT = """
INSERT INTO attempts (project_id, job_id, number, worker_id, claim_token, start_step)
SELECT project_id, id, 1, 'bench-1', 'x', 0 FROM jobs WHERE id = ANY(:ids)
"""
WORKER = """
INSERT INTO workers (id, device, memory_gb, machine_fingerprint, machine_facts, queues, online_until)
VALUES ('bench-1', 'cpu', 16, '0', '{}', '{training,light}', now() + interval '1 day')
"""


class Jobs(NamedTuple):
    queued: list[str]
    running: list[str]
    answers: dict[str, httpx2.Response]
    spec: dict[str, Any]


def make_jobs(engine: Engine, project_id: str, client: httpx2.Client) -> Jobs:
    with transaction(open_sessions(engine)) as session:
        spec = _spec(session, project_id)
        session.execute(text(WORKER))
    ids = [_post(client, spec) for _ in range(2 * OF_EACH)]
    running, queued = ids[::2], ids[1::2]
    with transaction(open_sessions(engine)) as session:
        session.execute(text(RUN), {"ids": running})
        session.execute(text(ATTEMPT), {"ids": running})
        session.execute(text("CREATE TABLE kept_jobs AS SELECT id FROM jobs"))
        session.execute(text("DELETE FROM outbox"))
    answers = {id: client.get(f"/jobs/{id}").raise_for_status() for id in ids}
    client.close()
    return Jobs(queued, running, answers, spec)


def remove_posted(engine: Engine) -> None:
    """Remove the jobs that a turn created, so that the next one starts with the same number."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM jobs WHERE id NOT IN (SELECT id FROM kept_jobs)"))
        connection.execute(text("DELETE FROM outbox"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE jobs, job_events, dataset_uses, outbox"))


def _post(client: httpx2.Client, spec: dict[str, Any]) -> str:
    return str(client.post("/jobs", json=spec).raise_for_status().json()["id"])


def _spec(session: Session, project_id: str) -> dict[str, Any]:
    id = new_id("file")
    session.add(
        RegisteredModel(
            id=new_id("model"), name=MODEL, state="ready", source="/nowhere", revision="1" * 64,
            architecture="Gemma3ForCausalLM", num_parameters=268_098_176, max_seq_len=32768,
            linear_modules=MODULES, config={},
        )
    )  # fmt: skip
    session.add(
        Dataset(
            id=id, project_id=project_id, filename="rows.jsonl", state="ready", storage_key=f"{project_id}/{id}",
            size=100_000, sha256="0" * 64, format="messages", num_examples=400,
        )
    )  # fmt: skip
    training = {"epochs": 2, "batch_size": 8, "learning_rate": 0.001}
    spec = {"base_model": MODEL, "dataset_id": id, "method": "qlora", "adapter": {"rank": 16, "alpha": 32}}
    return spec | {"training": training, "suffix": "support", "metadata": {"team": "support"}}

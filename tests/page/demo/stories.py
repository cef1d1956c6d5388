"""Describes the demonstration's jobs: what was asked, how it went, and how its curves look."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.jobs.state import FailureReason, JobState
from tests.page.demo.curves import Shape


@dataclass(frozen=True)
class Leg:
    """Describes one attempt: its worker, and its steps."""

    worker: str
    last: int
    """Is the last step that it measured."""
    start: int = 0
    """Is the step that it resumed from."""
    outcome: str | None = None
    """Is None for the attempt that holds the job."""
    waited_minutes: float = 0.4
    out_of_memory_at: tuple[int, ...] = ()
    """Lists the steps at which it went on with less memory."""


@dataclass(frozen=True)
class Story:
    name: str
    state: JobState
    base_model: str
    dataset: str
    shape: Shape
    legs: tuple[Leg, ...] = ()
    method: str = "qlora"
    hours_ago: float = 0.0
    """Is how long ago it ended, or, if it is queued, was created. Others go on now."""
    save_every: int = 100
    training: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    failure: tuple[FailureReason, str] | None = None
    stops_early: bool = False
    metadata: Mapping[str, str] = field(default_factory=lambda: {"team": "support"})
    phase: str | None = None
    key: str = "ci"
    """Names the API key that created it."""

    def num_adapter_parameters(self, num_parameters: int) -> int:
        """Return the parameters of an adapter of all linear layers."""
        return int(num_parameters * 0.0041 * self.spec.get("adapter", {}).get("rank", 16) / 16)


GPU_4090, GPU_A100, GPU_L4, GPU_L4_2 = "atlas-1-2214", "helios-3-871", "orion-1-1409", "orion-2-1377"
OFFLINE = "titan-7-981"

STORIES = (
    Story(
        name="support-replies-qwen3-4b",
        state=JobState.running,
        base_model="qwen3-4b",
        dataset="support-replies.jsonl",
        shape=Shape(4800, 2e-4, first_loss=2.18, final_loss=0.79, noise=0.075, spikes=((1130, 0.8),), seed=11,
                    eval_every=240, overfits=0.02, memory_gb=17.6, tokens_per_second=3350),
        legs=(Leg(OFFLINE, 1047, outcome="lost"), Leg(GPU_4090, 1912, start=960, waited_minutes=1.3)),
        save_every=480,
        training={"epochs": 16, "eval_every": 240, "save_every": 480},
        spec={"validation_dataset_id": "support-replies-validation.jsonl", "adapter": {"rank": 32}},
        metadata={"team": "support", "ticket": "ML-412"},
        phase="training",
    ),
    Story(
        name="support-replies-llama-3.1-8b",
        state=JobState.running,
        base_model="llama-3.1-8b-instruct",
        dataset="support-replies.jsonl",
        shape=Shape(3600, 1e-4, first_loss=1.92, final_loss=0.71, noise=0.06, seed=12, eval_every=300,
                    half_life=0.09, memory_gb=41.0, tokens_per_second=6900, num_rows=2400),
        legs=(Leg(GPU_A100, 742),),
        method="lora",
        save_every=360,
        training={"epochs": 12, "eval_every": 300, "learning_rate": 1e-4, "save_every": 360},
        spec={"validation_dataset_id": "support-replies-validation.jsonl", "adapter": {"rank": 64}, "priority": 10},
        metadata={"team": "support", "ticket": "ML-412"},
        phase="training",
    ),
    Story(
        name="search-queries-gemma-3-4b",
        key="operations",
        state=JobState.pausing,
        base_model="gemma-3-4b",
        dataset="sql-questions.jsonl",
        shape=Shape(1200, 2e-4, first_loss=2.9, final_loss=0.6, seed=13, eval_every=None, memory_gb=13.1,
                    tokens_per_second=1480, num_rows=1600),
        legs=(Leg(GPU_L4, 388),),
        training={"epochs": 6, "save_every": 100},
        metadata={"team": "search"},
        phase="training",
    ),
    Story(
        name="tone-preferences-gemma-3-4b",
        key="notebook of Aylin",
        state=JobState.cancelling,
        base_model="gemma-3-4b",
        dataset="tone-preferences.jsonl",
        shape=Shape(400, 2e-5, objective="dpo", first_loss=0.693, final_loss=0.36, seed=14, eval_every=None,
                    memory_gb=15.2, tokens_per_second=1320, num_rows=800),
        legs=(Leg(GPU_L4_2, 96),),
        training={"epochs": 4},
        spec={"objective": "dpo"},
        metadata={"team": "content"},
        phase="training",
    ),
    Story(
        name="email-summaries-qwen3-1.7b",
        key="operations",
        state=JobState.queued,
        base_model="qwen3-1.7b",
        dataset="support-replies.jsonl",
        shape=Shape(900, 2e-4),
        hours_ago=0.2,
        training={"epochs": 3},
        spec={"resources": {"gpu": ["RTX 4090", "A100"]}},
        metadata={"team": "mail"},
    ),
    Story(
        name="legal-answers-llama-3.3-70b",
        key="operations",
        state=JobState.queued,
        base_model="llama-3.3-70b-instruct",
        dataset="support-replies.jsonl",
        shape=Shape(600, 1e-4),
        hours_ago=3.1,
        training={"epochs": 2},
        spec={"resources": {"min_memory_gb": 96}},
        metadata={"team": "legal"},
    ),
    Story(
        name="release-notes-qwen3-4b",
        key="notebook of Aylin",
        state=JobState.paused,
        base_model="qwen3-4b",
        dataset="invoice-fields.jsonl",
        shape=Shape(1000, 2e-4, first_loss=2.5, final_loss=0.9, seed=15, eval_every=None, memory_gb=16.2,
                    num_rows=900),
        legs=(Leg(GPU_4090, 437, outcome="paused"),),
        hours_ago=19,
        training={"max_steps": 1000, "save_every": 100},
        metadata={"team": "docs"},
    ),
    Story(
        name="sql-from-questions-llama-3.1-8b",
        key="notebook of Aylin",
        state=JobState.succeeded,
        base_model="llama-3.1-8b-instruct",
        dataset="sql-questions.jsonl",
        shape=Shape(5000, 2e-4, first_loss=1.75, final_loss=0.31, noise=0.09, spikes=((1790, 1.4), (3320, 0.5)),
                    seed=16, half_life=0.04, eval_every=250, gap=0.05, memory_gb=58.5, tokens_per_second=7400,
                    num_rows=1600),
        legs=(Leg(OFFLINE, 1262, outcome="lost"), Leg(GPU_A100, 3604, start=1000, outcome="released", waited_minutes=2),
              Leg(GPU_A100, 5000, start=3600, outcome="succeeded", waited_minutes=9)),
        hours_ago=26,
        save_every=500,
        training={"epochs": 25, "eval_every": 250, "save_every": 500},
        spec={"validation_split": 0.1, "adapter": {"rank": 64, "use_rslora": True}},
        metadata={"team": "analytics", "dashboard": "weekly"},
    ),
    Story(
        name="support-replies-qwen3-1.7b",
        state=JobState.succeeded,
        base_model="qwen3-1.7b",
        dataset="support-replies.jsonl",
        shape=Shape(1500, 2e-4, first_loss=2.42, final_loss=0.97, seed=17, eval_every=100, overfits=0.14,
                    memory_gb=9.4, tokens_per_second=6100),
        legs=(Leg(GPU_4090, 1100, outcome="succeeded"),),
        hours_ago=44,
        training={"epochs": 5, "eval_every": 100, "save_every": 150,
                  "early_stopping": {"patience": 3, "min_delta": 0.002}},
        spec={"validation_dataset_id": "support-replies-validation.jsonl"},
        stops_early=True,
        save_every=150,
        metadata={"team": "support", "ticket": "ML-388"},
    ),
    Story(
        name="tone-preferences-qwen3-4b",
        key="notebook of Aylin",
        state=JobState.succeeded,
        base_model="qwen3-4b",
        dataset="tone-preferences.jsonl",
        shape=Shape(600, 2e-5, objective="dpo", first_loss=0.693, final_loss=0.29, noise=0.08, half_life=0.16, seed=18,
                    eval_every=60, gap=0.03, memory_gb=19.8, tokens_per_second=2100, num_rows=800),
        legs=(Leg(GPU_4090, 600, outcome="succeeded"),),
        hours_ago=52,
        training={"epochs": 6, "eval_every": 60},
        spec={"objective": "dpo", "dpo": {"beta": 0.1}, "validation_split": 0.1},
        save_every=60,
        metadata={"team": "content"},
    ),
    Story(
        name="ticket-routing-gemma-3-270m",
        state=JobState.succeeded,
        base_model="gemma-3-270m",
        dataset="support-replies.jsonl",
        shape=Shape(900, 1e-5, first_loss=3.3, final_loss=1.42, seed=19, half_life=0.11, eval_every=None, noise=0.05,
                    memory_gb=6.1, tokens_per_second=21_000, schedule="linear"),
        legs=(Leg(GPU_L4, 900, outcome="succeeded"),),
        method="full",
        hours_ago=71,
        training={"epochs": 3, "schedule": "linear"},
        save_every=90,
        metadata={"team": "support"},
    ),
    Story(
        name="contract-clauses-llama-3.1-8b",
        key="operations",
        state=JobState.failed,
        base_model="llama-3.1-8b-instruct",
        dataset="sql-questions.jsonl",
        shape=Shape(1000, 2e-4, first_loss=1.84, final_loss=0.9, seed=20, eval_every=None, memory_gb=23.4,
                    tokens_per_second=1100, num_rows=1600),
        legs=(Leg(GPU_L4_2, 31, outcome="failed", out_of_memory_at=(12, 31)),
              Leg(GPU_L4_2, 50, start=0, outcome="failed", waited_minutes=0.2, out_of_memory_at=(44,))),
        hours_ago=8,
        training={"epochs": 5, "max_seq_len": 8192},
        spec={"max_retries": 1},
        failure=(FailureReason.out_of_memory,
                 "The training ran out of memory with 8,192 tokens per micro-batch, with gradient checkpointing. Use a "
                 "GPU with more memory, lower max_seq_len, or set memory to min."),
        metadata={"team": "legal"},
    ),
    Story(
        name="product-descriptions-qwen3-1.7b",
        state=JobState.failed,
        base_model="qwen3-1.7b",
        dataset="invoice-fields.jsonl",
        shape=Shape(800, 4e-3, first_loss=2.3, final_loss=1.1, noise=0.14, seed=21, diverges_at=212, eval_every=None,
                    memory_gb=9.0, tokens_per_second=5900, num_rows=900, spikes=((96, 1.1), (171, 1.9))),
        legs=(Leg(GPU_4090, 252, outcome="failed"),),
        hours_ago=30,
        training={"max_steps": 800, "learning_rate": 4e-3, "save_every": 100},
        failure=(FailureReason.non_finite_loss,
                 "The loss at step 253 is not finite (rows 118, 402, 771). Lower learning_rate or check these rows."),
        metadata={"team": "shop"},
    ),
    Story(
        name="chat-export-qwen3-4b",
        state=JobState.failed,
        base_model="qwen3-4b",
        dataset="chat-export-2026-10.jsonl",
        shape=Shape(400, 2e-4),
        hours_ago=5.5,
        training={"epochs": 1},
        failure=(FailureReason.dataset_invalid, ""),
        metadata={"team": "support"},
    ),
    Story(
        name="meeting-notes-gemma-3-4b",
        state=JobState.cancelled,
        base_model="gemma-3-4b",
        dataset="support-replies.jsonl",
        shape=Shape(1500, 2e-4, first_loss=2.7, final_loss=1.25, seed=22, eval_every=150, memory_gb=14.1,
                    tokens_per_second=1500),
        legs=(Leg(GPU_L4, 236, outcome="cancelled"),),
        hours_ago=97,
        training={"epochs": 5, "eval_every": 150},
        spec={"validation_split": 0.05},
        save_every=150,
        metadata={"team": "office"},
    ),
)  # fmt: skip

"""Makes curves that look like real training: decay, correlated noise, spikes, steps of memory. Pure and seeded."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Values = dict[str, float]


@dataclass(frozen=True)
class Shape:
    """Describes one training. Losses are in nats per token, memory in 10^9 bytes."""

    total_steps: int
    learning_rate: float
    warmup_ratio: float = 0.03
    schedule: str = "cosine"
    objective: str = "sft"
    first_loss: float = 2.1
    final_loss: float = 0.85
    half_life: float = 0.06
    """Is the share of the steps in which the first half of the decrease happens."""
    noise: float = 0.07
    spikes: tuple[tuple[int, float], ...] = ()
    """Lists steps, each with how much the loss rises there."""
    diverges_at: int | None = None
    overfits: float = 0.0
    """Is how much the validation loss rises again by the end."""
    gap: float = 0.06
    """Is how much higher the validation loss ends than the training loss."""
    tokens_per_step: int = 5200
    tokens_per_second: float = 3100
    memory_gb: float = 14.0
    rows_per_step: int = 8
    num_rows: int = 2400
    eval_every: int | None = 100
    seed: int = 0

    def seconds_per_step(self) -> float:
        return self.tokens_per_step / self.tokens_per_second


def measure_steps(shape: Shape) -> Iterator[Values]:
    """Yield the values of step 1, 2, …, the same for the same shape."""
    rng = random.Random(shape.seed)
    drift, excess, num_tokens, memory, spikes = 0.0, 0.0, 0, 0.82, dict(shape.spikes)
    for step in range(1, shape.total_steps + 1):
        drift = 0.82 * drift + rng.gauss(0, 1) * 0.35
        excess = excess * 0.78 + spikes.get(step, 0.0)
        loss = smooth_loss(shape, step) * math.exp(shape.noise * (drift + 0.6 * rng.gauss(0, 1))) + excess
        if shape.diverges_at is not None and step > shape.diverges_at:
            loss += 0.04 * math.exp((step - shape.diverges_at) / 7)
        tokens = int(shape.tokens_per_step * rng.uniform(0.82, 1.18))
        num_tokens += tokens
        memory = max(memory, 0.8 + rng.betavariate(1.2, 9) * 0.2)
        rate = shape.tokens_per_second * rng.gauss(1, 0.018) * (0.62 if rng.random() < 0.008 else 1)
        values = {
            "loss": loss,
            "learning_rate": learning_rate(shape, step),
            "grad_norm": grad_norm(rng, loss, excess, step / shape.total_steps),
            "tokens_per_second": rate,
            "epoch": step * shape.rows_per_step / shape.num_rows,
            "num_tokens": float(num_tokens),
            "peak_memory_bytes": float(int(shape.memory_gb * 1e9 * memory)),
        }
        yield {name: rounded(value) for name, value in (values | preferences(shape, rng, step)).items()}


def smooth_loss(shape: Shape, step: int) -> float:
    """Return the loss without noise: a fast decrease, a slow one, and a small drop at each epoch."""
    share = (step - 1) / shape.total_steps
    fast = 0.5 ** (share / shape.half_life)
    slow = (1 - share) ** 1.4
    epoch = math.floor(step * shape.rows_per_step / shape.num_rows)
    left = (0.7 * fast + 0.3 * slow) * 0.97**epoch
    return shape.final_loss + (shape.first_loss - shape.final_loss) * left


def grad_norm(rng: random.Random, loss: float, excess: float, share: float) -> float:
    calm = 0.42 + 1.1 * 0.5 ** (share / 0.03)
    return (calm + 2.4 * excess) * math.exp(rng.gauss(0, 0.16)) * max(loss, 0.2) ** 0.25


def learning_rate(shape: Shape, step: int) -> float:
    warmup = max(int(shape.total_steps * shape.warmup_ratio), 1)
    if step <= warmup:
        return shape.learning_rate * step / warmup
    share = (step - warmup) / max(shape.total_steps - warmup, 1)
    if shape.schedule == "constant":
        return shape.learning_rate
    return shape.learning_rate * (0.5 * (1 + math.cos(math.pi * share)) if shape.schedule == "cosine" else 1 - share)


def preferences(shape: Shape, rng: random.Random, step: int) -> Values:
    """Return the rewards of a training with the objective `dpo`."""
    if shape.objective != "dpo":
        return {}
    learned = 1 - 0.5 ** ((step - 1) / shape.total_steps / shape.half_life)
    chosen = 0.55 * learned + rng.gauss(0, 0.06) * (0.2 + learned)
    rejected = -1.35 * learned + rng.gauss(0, 0.11) * (0.2 + learned)
    accuracy = min(max(0.5 + 0.36 * learned + rng.gauss(0, 0.07), 0), 1)
    return {
        "chosen_reward": chosen,
        "rejected_reward": rejected,
        "reward_margin": chosen - rejected,
        "reward_accuracy": round(accuracy * shape.rows_per_step) / shape.rows_per_step,
    }


def evaluate(shape: Shape, step: int) -> Values:
    """Return the values of the evaluation after a step."""
    rng = random.Random(f"{shape.seed}/{step}")
    share = step / shape.total_steps
    rise = shape.overfits * max(share - 0.55, 0) ** 1.5 / 0.45**1.5
    loss = smooth_loss(shape, step) + shape.gap * share + rise + rng.gauss(0, 0.006)
    values: dict[str, float] = {"validation_loss": loss}
    if shape.objective == "dpo":
        learned = 1 - 0.5 ** (share / shape.half_life)
        values["validation_reward_accuracy"] = 0.5 + 0.31 * learned + rng.gauss(0, 0.01)
        values["validation_reward_margin"] = 1.6 * learned + rng.gauss(0, 0.03)
    else:
        values["validation_token_accuracy"] = 1 - 0.27 * loss**0.8 + rng.gauss(0, 0.002)
    return {name: rounded(value) for name, value in values.items()}


def rounded(value: float) -> float:
    """Keep the seven digits that a training process reports."""
    return float(f"{value:.7g}")


def evaluation_steps(shape: Shape) -> list[int]:
    if shape.eval_every is None:
        return []
    steps = list(range(shape.eval_every, shape.total_steps + 1, shape.eval_every))
    return steps if steps and steps[-1] == shape.total_steps else [*steps, shape.total_steps]


def describe(shape: Shape) -> dict[str, Any]:
    """Return the counts of one epoch as `dataset_prepared` reports them."""
    num_tokens = int(shape.tokens_per_step * shape.num_rows / shape.rows_per_step)
    return {
        "num_rows": shape.num_rows,
        "num_validation_rows": 200 if shape.eval_every else 0,
        "num_dropped_rows": 0,
        "num_truncated_rows": shape.num_rows // 120,
        "num_tokens": num_tokens,
        "num_labelled_tokens": int(num_tokens * 0.37),
        "chat_template": "the model's tokenizer",
    }

"""Tracks a training's evaluations, which checkpoints store: the best step, and when to stop."""

from dataclasses import asdict, dataclass
from typing import Any

from app.domain.jobs.training_config import EarlyStopping


@dataclass(frozen=True)
class Evaluation:
    """Holds an evaluation's results. A value that the objective does not measure is null; see `loop.objectives`."""

    step: int
    loss: float
    token_accuracy: float | None = None
    reward_accuracy: float | None = None
    reward_margin: float | None = None

    def values(self) -> dict[str, float]:
        """Return the measured values by name."""
        return {name: value for name, value in asdict(self).items() if name != "step" and value is not None}


@dataclass
class Evaluations:
    """Tracks all evaluations so far."""

    last: Evaluation | None = None
    best: Evaluation | None = None
    """Is the evaluation with the lowest loss; of equal ones, the first."""
    loss_to_beat: float | None = None
    """Is the loss of the last improvement that early stopping counted."""
    num_without_improvement: int = 0

    def add(self, evaluation: Evaluation, min_delta: float = 0.0) -> bool:
        """Add an evaluation, and say whether it is the best so far. A slow fall is an improvement once it adds up to
        more than `min_delta`."""
        self.last = evaluation
        if self.loss_to_beat is None or evaluation.loss < self.loss_to_beat - min_delta:
            self.loss_to_beat, self.num_without_improvement = evaluation.loss, 0
        else:
            self.num_without_improvement += 1
        is_best = self.best is None or evaluation.loss < self.best.loss
        if is_best:
            self.best = evaluation
        return is_best

    def should_stop(self, early_stopping: EarlyStopping | None) -> bool:
        return early_stopping is not None and self.num_without_improvement >= early_stopping.patience

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, written: dict[str, Any]) -> "Evaluations":
        parts = {name: Evaluation(**written[name]) if written[name] else None for name in ("last", "best")}
        return cls(**(written | parts))

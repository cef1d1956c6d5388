"""Defines what a training minimizes: the mean of a loss over labelled tokens (`sft`) or over pairs of answers
(`dpo`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from app.domain.jobs.spec import JobSpec
from worker.training.data.packing import AnyRow, MicroBatch, PreferencePair
from worker.training.data.row_losses import mean_losses
from worker.training.ops.flash import to_device


class BatchResult(NamedTuple):
    """Holds one micro-batch's results. Sums are over its terms; a step's mean is over the terms of all
    micro-batches."""

    by_line: dict[int, float]
    """Holds each row's loss."""
    sums: dict[str, float]
    """Holds the sums by the metric's name: `loss`, and the objective's metrics."""


class Objective(Protocol):
    """Defines an objective. `losses` are those of the batch's targets."""

    counts_hits: bool
    """Says whether an evaluation counts the tokens that the model would have chosen."""

    def num_terms(self, rows: Sequence[AnyRow]) -> int:
        """Return the number of terms in a mean over these rows."""

    def sum(self, batch: MicroBatch, losses: Tensor) -> Tensor:
        """Return the scalar for backward, on the losses' device: the host does not wait for it."""

    def summarize(self, batch: MicroBatch, losses: Tensor, hits: Tensor | None = None) -> BatchResult:
        """Return the results from losses on the CPU and their `hits`."""


class Sft:
    """Minimizes the cross-entropy of the labelled tokens."""

    counts_hits = True

    def num_terms(self, rows: Sequence[AnyRow]) -> int:
        return sum(row.num_labelled for row in rows)

    def sum(self, batch: MicroBatch, losses: Tensor) -> Tensor:
        return losses.sum()

    def summarize(self, batch: MicroBatch, losses: Tensor, hits: Tensor | None = None) -> BatchResult:
        values = losses.double()
        sums = {"loss": float(values.sum())}
        if hits is not None:
            sums["token_accuracy"] = float(hits.sum())
        return BatchResult(mean_losses(values, batch), sums)


@dataclass(frozen=True)
class PreferenceLoss:
    """Computes DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7): -logsigmoid(chosen - rejected reward). An
    answer's reward is beta times the increase of its log-probability since the job began; a log-probability is the sum
    over the answer's labelled tokens. Differences of such sums are computed in fp64."""

    beta: float
    counts_hits = False

    def num_terms(self, rows: Sequence[AnyRow]) -> int:
        return len(rows)

    def sum(self, batch: MicroBatch, losses: Tensor) -> Tensor:
        return self._by_pair(self._rewards(batch, losses)).sum()

    def summarize(self, batch: MicroBatch, losses: Tensor, hits: Tensor | None = None) -> BatchResult:
        rewards = self._rewards(batch, losses)
        by_pair, margins = self._by_pair(rewards), rewards[:, 0] - rewards[:, 1]
        sums = {
            "loss": float(by_pair.sum()),
            "reward_accuracy": float((margins > 0).sum()),
            "reward_margin": float(margins.sum()),
            "chosen_reward": float(rewards[:, 0].sum()),
            "rejected_reward": float(rewards[:, 1].sum()),
        }
        lines = (pair.line for pair in _pairs(batch))
        return BatchResult(dict(zip(lines, by_pair.tolist(), strict=True)), sums)

    def _rewards(self, batch: MicroBatch, losses: Tensor) -> Tensor:
        """Return the rewards of each pair's chosen and rejected answer, [pairs, 2], fp64."""
        references = torch.tensor([pair.reference for pair in _pairs(batch)], dtype=torch.float64)
        return self.beta * (log_probs(batch, losses) - to_device(references, losses.device))

    @staticmethod
    def _by_pair(rewards: Tensor) -> Tensor:
        return -F.logsigmoid(rewards[:, 0] - rewards[:, 1])


def log_probs(batch: MicroBatch, losses: Tensor) -> Tensor:
    """Return the log-probabilities of each pair's chosen and rejected answer, [pairs, 2], fp64."""
    sums = torch.zeros(len(batch.examples), dtype=torch.float64, device=losses.device)
    return -sums.index_add(0, to_device(batch.owners, losses.device), losses.double()).view(-1, 2)


def objective_of(spec: JobSpec) -> Objective:
    return PreferenceLoss(spec.dpo.beta) if spec.dpo else Sft()


def _pairs(batch: MicroBatch) -> list[PreferencePair]:
    pairs = [row for row in batch.rows if isinstance(row, PreferencePair)]
    assert len(pairs) == len(batch.rows)
    return pairs

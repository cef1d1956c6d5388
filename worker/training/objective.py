"""What a training makes smaller: the mean of a loss over labelled tokens (`sft`) or over pairs of answers (`dpo`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from app.domain.spec import JobSpec
from worker.training.packing import AnyRow, MicroBatch, Pair
from worker.training.row_losses import mean_losses


class Judged(NamedTuple):
    """Of one micro-batch. Sums are over its terms, of which a step's mean has many more."""

    loss: Tensor
    """Sum, to go backward from."""
    by_line: dict[int, float]
    """Each row's own loss."""
    sums: dict[str, float]
    """What is told of it, by the metric's name: `loss`, and the objective's own."""


class Objective(Protocol):
    counts_hits: bool
    """Whether an evaluation asks which tokens the model would have chosen."""

    def num_terms(self, rows: Sequence[AnyRow]) -> int:
        """How many terms a mean over these rows has."""

    def judge(self, batch: MicroBatch, losses: Tensor, hits: Tensor | None = None) -> Judged:
        """`losses`, and what `hits` says of them, are those of the batch's targets."""


class Sft:
    """Cross-entropy of the labelled tokens."""

    counts_hits = True

    def num_terms(self, rows: Sequence[AnyRow]) -> int:
        return sum(row.num_labelled for row in rows)

    def judge(self, batch: MicroBatch, losses: Tensor, hits: Tensor | None = None) -> Judged:
        told = losses.detach().double().cpu()
        sums = {"loss": float(told.sum())}
        if hits is not None:
            sums["token_accuracy"] = float(hits.sum())
        return Judged(losses.sum(), mean_losses(told, batch), sums)


@dataclass(frozen=True)
class PreferenceLoss:
    """DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7): -logsigmoid(chosen - rejected reward). An answer's
    reward is beta times what its log-probability has gained since the job began; a log-probability is the sum over the
    answer's labelled tokens. Differences of such sums are taken in fp64."""

    beta: float
    counts_hits = False

    def num_terms(self, rows: Sequence[AnyRow]) -> int:
        return len(rows)

    def judge(self, batch: MicroBatch, losses: Tensor, hits: Tensor | None = None) -> Judged:
        references = torch.tensor([pair.reference for pair in _pairs(batch)], dtype=torch.float64)
        rewards = self.beta * (log_probs(batch, losses) - references.to(losses.device))
        margins = rewards[:, 0] - rewards[:, 1]
        by_pair = -F.logsigmoid(margins)
        told, own, ahead = by_pair.detach().cpu(), rewards.detach().cpu(), margins.detach().cpu()
        sums = {
            "loss": float(told.sum()),
            "reward_accuracy": float((ahead > 0).sum()),
            "reward_margin": float(ahead.sum()),
            "chosen_reward": float(own[:, 0].sum()),
            "rejected_reward": float(own[:, 1].sum()),
        }
        lines = (pair.line for pair in _pairs(batch))
        return Judged(by_pair.sum(), dict(zip(lines, told.tolist(), strict=True)), sums)


def log_probs(batch: MicroBatch, losses: Tensor) -> Tensor:
    """Of each pair's chosen and rejected answer, [pairs, 2], fp64."""
    sums = torch.zeros(len(batch.examples), dtype=torch.float64, device=losses.device)
    return -sums.index_add(0, batch.owners.to(losses.device), losses.double()).view(-1, 2)


def objective_of(spec: JobSpec) -> Objective:
    return PreferenceLoss(spec.dpo.beta) if spec.dpo else Sft()


def _pairs(batch: MicroBatch) -> list[Pair]:
    pairs = [row for row in batch.rows if isinstance(row, Pair)]
    assert len(pairs) == len(batch.rows)
    return pairs

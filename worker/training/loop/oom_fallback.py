"""Reacts to a lack of memory: enables gradient checkpointing first, then halves the micro-batch, step by step."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from app.domain.events.job_events import OutOfMemoryFallbackEvent
from app.domain.jobs.state import FailureReason
from worker.training.checkpoint.checkpoint import random_states, restore_random_states
from worker.training.data.dataset import Rows
from worker.training.model.loading import Model
from worker.training.model.memory_plan import Sizes, next_smaller_plan, suggest_smaller_settings
from worker.training.model.out_of_memory import free_memory, is_out_of_memory
from worker.training.runtime.channel import Channel
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import EventMessage, Replanned, TrainingRequest

T = TypeVar("T")

RESERVE_BYTES = 2 * 2**20
"""Is freed when nothing else is left, so that the error can be reported."""


class OutOfMemoryFallback:
    def __init__(
        self, request: TrainingRequest, model: Model, rows: Rows, optimizer: torch.optim.Optimizer, channel: Channel
    ) -> None:
        self._request, self._model, self._optimizer, self._channel = request, model, optimizer, channel
        self._sizes = Sizes.of(request, model.causal.config)  # now: it maps the weights, and later memory is short
        self._reserve: bytearray | None = bytearray(RESERVE_BYTES)
        self._longest_row = max([rows.training.longest] + ([rows.validation.longest] if rows.validation else []))

    def run(self, step: int, work: Callable[[], T]) -> T:
        """Do `work`. If memory does not suffice, repeat it under a smaller plan and from the same random state."""
        before = random_states(self._model.plan.device)
        while True:
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Not in the handler: there the error's traceback still holds the step's tensors.
            self._use_smaller_plan(step)
            restore_random_states(before, self._model.plan.device)

    def make_error(self) -> TrainingFailed:
        self._reserve = None
        gc.collect()
        plan = self._model.plan
        how = "with" if plan.gradient_checkpointing else "without"
        advice = suggest_smaller_settings(self._request, self._sizes, plan, self._longest_row)
        return TrainingFailed(
            FailureReason.out_of_memory,
            f"The training ran out of memory with {plan.micro_batch_tokens:,} tokens per micro-batch, {how} gradient "
            f"checkpointing. Use {advice}.",
        )

    def _use_smaller_plan(self, step: int) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        wish = self._request.spec.training.gradient_checkpointing
        less = next_smaller_plan(self._model.plan, wish, self._longest_row)
        if less is None:
            raise self.make_error()
        self._model.use_plan(less)
        free_memory(less.device)
        reduced = OutOfMemoryFallbackEvent(
            step=step,
            gradient_checkpointing=less.gradient_checkpointing,
            micro_batch_tokens=less.micro_batch_tokens,
        )
        self._channel.send(EventMessage(event=reduced))
        self._channel.send(Replanned(resolved=less.resolved(self._request)))

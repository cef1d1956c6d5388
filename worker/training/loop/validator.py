"""Evaluates a training on its validation rows: when that is due, which weights are the best, and when to stop early."""

from app.domain.events.job_events import EarlyStopped, Evaluated, JobEvent
from app.domain.jobs.state import JobPhase
from worker.training.checkpoint.best_weights import hold_weights
from worker.training.checkpoint.checkpoint import TrainState, load_weights
from worker.training.checkpoint.train_state import Evaluation
from worker.training.data.dataset import Examples
from worker.training.data.packing import MicroBatch
from worker.training.loop.evaluation import evaluate
from worker.training.loop.objectives import objective_of
from worker.training.loop.oom_fallback import OutOfMemoryFallback
from worker.training.model.loading import Model
from worker.training.runtime.channel import Channel
from worker.training.runtime.errors import name_rows
from worker.training.runtime.messages import EventMessage, MetricsMessage, PhaseEntered, TrainingRequest, WorkStarted


class Validator:
    """Evaluates the model, and records the results in the train state."""

    def __init__(
        self,
        request: TrainingRequest,
        channel: Channel,
        model: Model,
        rows: Examples,
        state: TrainState,
        fallback: OutOfMemoryFallback,
        *,
        steps_per_epoch: int,
        total_steps: int,
    ) -> None:
        self._channel, self._model, self._rows, self._state, self._fallback = channel, model, rows, state, fallback
        self._training, self._work_dir = request.spec.training, request.work_dir
        self._objective = objective_of(request.spec)
        self._every = self._training.eval_every or steps_per_epoch
        self._total_steps = total_steps

    def is_due(self) -> bool:
        step, last = self._state.position.step, self._state.evaluations.last
        due = step > 0 and (step % self._every == 0 or step == self._total_steps)
        return due and bool(self._rows) and (last is None or last.step != step)

    def evaluate(self) -> None:
        """Evaluate the model after the current step, and hold its weights if they are the best so far. Raises StopAsked
        if a stop is requested during it; the step then counts as not evaluated."""
        self._channel.send(PhaseEntered(phase=JobPhase.evaluating))
        step = self._state.position.step
        result = self._fallback.run(
            step + 1, lambda: evaluate(self._model, self._objective, self._rows, step, self._watch)
        )
        stopping = self._training.early_stopping
        is_best = self._state.evaluations.add(result, stopping.min_delta if stopping else 0.0)
        if is_best and self._training.result == "best":
            self._state.best_weights = hold_weights(self._model.trainable, self._work_dir)
        values = {f"validation_{name}": value for name, value in result.values().items()}
        self._channel.send(MetricsMessage(step=step, values=values))
        self._send_event(Evaluated(step=step, **values))
        self._channel.send(PhaseEntered(phase=JobPhase.training))

    def should_stop(self) -> bool:
        """Say whether early stopping ends the training."""
        return self._state.evaluations.should_stop(self._training.early_stopping)

    def report_early_stop(self) -> None:
        step, best = self._state.position.step, self._state.evaluations.best
        if self.should_stop() and step < self._total_steps and best is not None:
            self._send_event(EarlyStopped(step=step, best_step=best.step, best_validation_loss=best.loss))

    def load_result_weights(self) -> tuple[int, Evaluation | None]:
        """Load the result's weights into the model, and return their step and its evaluation."""
        state = self._state
        if state.best_weights is None or state.evaluations.best is None:
            return state.position.step, state.evaluations.last
        load_weights(state.trainable, state.best_weights)
        return state.evaluations.best.step, state.evaluations.best

    def _watch(self, batch: MicroBatch) -> None:
        self._channel.raise_if_stopped()
        what = f"the evaluation after step {self._state.position.step}"
        self._channel.send(WorkStarted(what=f"{what} ({name_rows(row.line for row in batch.rows)})"))

    def _send_event(self, event: JobEvent) -> None:
        self._channel.send(EventMessage(event=event))

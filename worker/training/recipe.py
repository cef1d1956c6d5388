"""Supervised fine-tuning, from a request to a result folder. Reads top to bottom."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from app.domain.event import Evaluated, JobEvent, ModelLoaded
from app.domain.job import FailureReason, JobPhase
from app.domain.spec import Training
from worker.training.channel import Channel, StopAsked
from worker.training.checkpoint import Position, read_checkpoint, read_position, write_checkpoint
from worker.training.evaluation import Evaluation, evaluate
from worker.training.failure import TrainingFailed
from worker.training.model import Model, load_config, load_model
from worker.training.optim import learning_rate, make_optimizer
from worker.training.packing import Epochs, Example, pack
from worker.training.parity import check_parity
from worker.training.plan import Plan, make_plan
from worker.training.protocol import (
    CheckpointWritten,
    Finished,
    Happened,
    Line,
    Measured,
    PhaseEntered,
    Planned,
    Request,
    Stopped,
)
from worker.training.publish import Outcome, library_versions, publish
from worker.training.rows import Rows, prepare_rows, warn
from worker.training.tokens import Tokens, load_tokens


def train(request: Request, channel: Channel) -> None:
    """Ends with Finished or Stopped said; raises TrainingFailed."""
    run: Run | None = None
    try:
        run = prepare(request, channel)
        run.loop()
        run.publish()
    except StopAsked:
        if run is not None:
            position = run.position
        else:
            position = read_position(request.checkpoint_path) if request.checkpoint_path else Position()
        channel.say(Stopped(step=position.step))


def prepare(request: Request, channel: Channel) -> "Run":
    """Rows first: they are quick to read, and what is wrong with them needs no model to be said."""
    channel.say(PhaseEntered(phase=JobPhase.preparing))
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it cost 6 % of a step
    config = load_config(request.base_model_path)
    tokens = load_tokens(request.base_model_path)
    rows = prepare_rows(request, tokens, channel)
    plan = make_plan(request, config, max(example.num_inputs for example in rows.training))
    started = time.monotonic()
    model = load_model(request.base_model_path, config, request.spec, plan)
    if not check_parity(model):
        warn(
            channel,
            "packing_off",
            f"{type(model.causal).__name__} brings its own attention; rows are trained on one by one, more slowly.",
        )
    loaded = ModelLoaded(
        num_parameters=model.num_parameters,
        num_trainable_parameters=model.num_trainable,
        seconds=round(time.monotonic() - started, 3),
    )
    channel.say(Happened(event=loaded))
    return Run(request, channel, tokens, rows, plan, model)


class Run:
    """One training, from its first step or a checkpoint's to its result."""

    def __init__(self, request: Request, channel: Channel, tokens: Tokens, rows: Rows, plan: Plan, model: Model):
        self.request, self.channel, self.tokens, self.rows, self.model = request, channel, tokens, rows, model
        self.training: Training = request.spec.training
        self.epochs = Epochs(len(rows.training), self.training.batch_size, self.training.seed)
        self.total_steps = self._total_steps()
        self.optimizer = make_optimizer(model.trainable, self.training)
        self.scaler = torch.amp.GradScaler(plan.device, enabled=plan.dtype is torch.float16)
        self.resolved = plan.resolved(request.spec)
        self.position = Position()
        self.validation: Evaluation | None = None
        if request.checkpoint_path is not None:
            self._resume(request.checkpoint_path)

    def loop(self) -> None:
        self._say(Planned(resolved=self.resolved, total_steps=self.total_steps, start_step=self.position.step))
        self._say(PhaseEntered(phase=JobPhase.training))
        if self._evaluation_due():  # the checkpoint was written before the evaluation of its step
            self._evaluate()
        while self.position.step < self.total_steps:
            self.channel.raise_if_stopped()
            self._step()
            self._save_or_stop()
            if self._evaluation_due():
                self._evaluate()

    def publish(self) -> None:
        self._say(PhaseEntered(phase=JobPhase.publishing))
        rows = self.rows
        outcome = Outcome(
            self.request, self.resolved, self.position, self.validation, rows.chat_template, rows.turn_ends
        )
        self._say(Finished(path=publish(self.model, self.tokens, outcome)))

    def _step(self) -> None:
        step = self.position.step + 1
        started = time.monotonic()
        examples = [self.rows.training[row] for row in self.epochs.rows(step)]
        loss = self._accumulate(step, examples)
        grad_norm = self._clip(step, examples)
        rate = learning_rate(step, self.total_steps, self.training)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

        num_tokens = sum(len(example.ids) for example in examples)
        position = self.position
        position.step, position.num_tokens, position.last_loss = step, position.num_tokens + num_tokens, loss
        position.first_loss = loss if position.first_loss is None else position.first_loss
        values = {
            "loss": loss,
            "learning_rate": rate,
            "grad_norm": grad_norm,
            "tokens_per_second": num_tokens / (time.monotonic() - started),
            "epoch": step / self.epochs.steps_per_epoch,
            "num_tokens": float(position.num_tokens),
            "memory_bytes": float(_peak_memory()),
        }
        self._say(Measured(step=step, values=values))

    def _accumulate(self, step: int, examples: list[Example]) -> float:
        """Gradients of the step's mean loss over labelled tokens, whatever micro-batches it takes."""
        num_labelled = sum(example.num_labelled for example in examples)
        total = 0.0
        for batch in pack(examples, self.model.micro_batch_tokens):
            losses, _ = self.model.losses(batch)
            finite = torch.isfinite(losses)
            if not finite.all():
                owners = set(batch.owners[~finite.cpu()].tolist())
                raise _not_finite("loss", step, [batch.examples[owner] for owner in owners])
            self.scaler.scale(losses.sum() / num_labelled).backward()  # type: ignore[no-untyped-call]
            total += float(losses.detach().double().sum())
        return total / num_labelled

    def _clip(self, step: int, examples: list[Example]) -> float:
        self.scaler.unscale_(self.optimizer)
        limit = self.training.max_grad_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(self.model.trainable.values(), limit)
        if not torch.isfinite(norm) and not self.scaler.is_enabled():  # an enabled scaler skips such a step
            raise _not_finite("gradient", step, examples)
        return float(norm)

    def _save_or_stop(self) -> None:
        """The last step is neither saved nor drained: the result follows at once."""
        wish = self.channel.stop_wish
        last = self.position.step == self.total_steps
        if not last and (wish == "drain" or self.position.step % self.training.save_every == 0):
            self._save()
        if wish == "cancel" or (wish == "drain" and not last):
            raise StopAsked

    def _save(self) -> None:
        path = write_checkpoint(
            self.request.work_dir / "checkpoints",
            self.position,
            self.model.trainable,
            self.optimizer,
            self.scaler,
            self._fingerprint(),
        )
        self._say(CheckpointWritten(step=self.position.step, path=path))

    def _evaluation_due(self) -> bool:
        step = self.position.step
        every = self.training.eval_every or self.epochs.steps_per_epoch
        return step > 0 and bool(self.rows.validation) and (step % every == 0 or step == self.total_steps)

    def _evaluate(self) -> None:
        self._say(PhaseEntered(phase=JobPhase.evaluating))
        try:
            result = evaluate(self.model, self.rows.validation, self.channel.raise_if_stopped)
        except StopAsked:
            self._save_or_stop()
            raise
        self.validation, step = result, self.position.step
        values = {"validation_loss": result.loss, "validation_token_accuracy": result.token_accuracy}
        self._say(Measured(step=step, values=values))
        self._tell(Evaluated(step=step, **values))
        self._say(PhaseEntered(phase=JobPhase.training))

    def _total_steps(self) -> int:
        if self.training.max_steps is not None:
            return self.training.max_steps
        assert self.training.epochs is not None
        return max(1, round(self.training.epochs * self.epochs.steps_per_epoch))

    def _resume(self, checkpoint: Path) -> None:
        self.position, written = read_checkpoint(checkpoint, self.model.trainable, self.optimizer, self.scaler)
        now = self._fingerprint()
        changed = sorted(key for key in now if now[key] != written.get(key))
        if changed:
            text = f"The checkpoint was written under another {', '.join(changed)}; the run goes on, not bit for bit."
            warn(self.channel, "inexact_resume", text)

    def _fingerprint(self) -> dict[str, Any]:
        """What must be the same for a resumed run to be bit for bit the uninterrupted one."""
        return {
            "dataset": self.request.dataset_sha256,
            "spec": self.request.spec.model_dump(mode="json"),
            "resolved": self.resolved,
            "libraries": library_versions(),
            "threads": torch.get_num_threads(),
        }

    def _say(self, line: Line) -> None:
        self.channel.say(line)

    def _tell(self, event: JobEvent) -> None:
        self.channel.say(Happened(event=event))


def _not_finite(what: str, step: int, examples: list[Example]) -> TrainingFailed:
    lines = sorted(example.line for example in examples)
    shown = ", ".join(map(str, lines[:20])) + (" …" if len(lines) > 20 else "")
    return TrainingFailed(
        FailureReason.nan_loss,
        f"The {what} of step {step} is not a finite number (dataset rows {shown}); lower learning_rate or look at "
        "these rows.",
    )


def _peak_memory() -> int:
    """Bytes: the device's on CUDA, else the process's resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

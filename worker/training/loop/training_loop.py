"""Fine-tunes on answers or on preferences, from a request to a result folder. Reads top to bottom."""

import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from app.domain.events.job_events import DryRunPassed, JobEvent
from app.domain.jobs.state import JobPhase
from app.domain.jobs.training_config import TrainingSpec
from worker.training.checkpoint.checkpoint import (
    LoadedCheckpoint,
    Position,
    TrainState,
    read_position,
    restore,
    take_snapshot,
    write_checkpoint,
)
from worker.training.checkpoint.fingerprint import check_resumable, fingerprint, get_machine_fingerprint
from worker.training.checkpoint.saving import SaveTimes
from worker.training.checkpoint.train_state import Evaluations
from worker.training.checkpoint.writer import CheckpointWriter
from worker.training.data.dataset import warn
from worker.training.data.packing import MicroBatch
from worker.training.data.row_losses import NAME as ROW_LOSSES
from worker.training.data.row_losses import make_unknown_losses, write_row_losses
from worker.training.loop.dpo_reference import ReferencePass
from worker.training.loop.dry_run import run_dry_run
from worker.training.loop.export import Outcome, publish, publish_reports
from worker.training.loop.objectives import objective_of
from worker.training.loop.oom_fallback import OutOfMemoryFallback
from worker.training.loop.optimizer import make_optimizer
from worker.training.loop.setup import TrainingSetup, set_up
from worker.training.loop.stepping import Stepping
from worker.training.loop.validator import Validator
from worker.training.model.adapter_file import AdapterConverter
from worker.training.model.device import peak_memory
from worker.training.model.out_of_memory import is_out_of_memory
from worker.training.rows.sampler import BatchSampler
from worker.training.runtime.channel import Channel, StopAsked
from worker.training.runtime.errors import name_rows
from worker.training.runtime.messages import (
    EventMessage,
    Finished,
    MetricsMessage,
    PhaseEntered,
    Planned,
    Started,
    Stopped,
    TrainingMessage,
    TrainingRequest,
    WorkStarted,
)
from worker.training.runtime.tokenizing import Tokenizing


def train(request: TrainingRequest, channel: Channel, tokenizing: Tokenizing | None = None) -> None:
    """Run a training, and send Finished or Stopped at its end. Raises TrainingFailed."""
    run: TrainingLoop | None = None
    try:
        run = prepare(request, channel, tokenizing)
        with run.writer:
            run.loop()
            run.publish()
    except StopAsked:
        if run is not None:
            position = run.state.position
        else:
            position = read_position(request.checkpoint_path) if request.checkpoint_path else Position()
        channel.send(Stopped(step=position.step))
    except Exception as error:
        if run is None or not is_out_of_memory(error):
            raise
        raise run.fallback.make_error() from error  # a smaller micro-batch did not help: in the optimizer
    finally:
        shutil.rmtree(request.tokens_dir, ignore_errors=True)


def prepare(request: TrainingRequest, channel: Channel, tokenizing: Tokenizing | None = None) -> "TrainingLoop":
    """Set up a training that has not begun."""
    return TrainingLoop(request, channel, set_up(request, channel, tokenizing))


class TrainingLoop:
    """Runs one training, from its first step or a checkpoint's to its result."""

    def __init__(self, request: TrainingRequest, channel: Channel, setup: TrainingSetup):
        self.request, self.channel = request, channel
        self.tokenizing, self.parity_seconds = setup.tokenizing, setup.parity_seconds
        self.rows, self.model = rows, model = setup.rows, setup.model
        self.training: TrainingSpec = request.spec.training
        self.objective = objective_of(request.spec)
        self.epochs = BatchSampler(len(rows.training), self.training.batch_size, self.training.seed)
        self.total_steps = self._total_steps()
        self.optimizer = make_optimizer(model.trainable, self.training, request.spec.adapter)
        self.scaler = torch.amp.GradScaler(model.plan.device, enabled=model.plan.dtype is torch.float16)
        self.state = TrainState(
            model.trainable,
            self.optimizer,
            self.scaler,
            Position(),
            Evaluations(),
            make_unknown_losses(len(rows.training)),
            adapter=AdapterConverter.of(model, request),
            references=rows.references,
        )
        self.fallback = OutOfMemoryFallback(request, model, rows, self.optimizer, channel)
        self.stepping = Stepping(
            model, self.objective, self.optimizer, self.scaler, self.fallback, self.training, self.total_steps
        )
        self.validator = Validator(
            request,
            channel,
            model,
            rows.validation,
            self.state,
            self.fallback,
            steps_per_epoch=self.epochs.steps_per_epoch,
            total_steps=self.total_steps,
        )
        machine = get_machine_fingerprint(request, model.plan.device)
        self.saving = SaveTimes(self.training, self.total_steps)
        if self.training.save_every == "auto":
            model.plan = replace(model.plan, save_every=self.saving.every)
        self.writer = CheckpointWriter(request.work_dir / "checkpoints", channel, machine, self.saving.add_cost)
        if setup.checkpoint is not None:
            self._resume(setup.checkpoint)

    @property
    def resolved(self) -> dict[str, Any]:
        return self.model.plan.resolved(self.request)

    @property
    def plan(self) -> dict[str, Any]:
        """Return the part of the plan that a fingerprint has."""
        return self.model.plan.decided_here(self.request)

    def loop(self) -> None:
        self._send(
            Planned(
                resolved=self.resolved,
                total_steps=self.total_steps,
                start_step=self.state.position.step,
                inexact_resumes=self.state.inexact_resumes,
            )
        )
        dry_run_seconds = self._run_dry_run()
        self._compute_reference()
        self._send(PhaseEntered(phase=JobPhase.training))
        self.channel.raise_if_stopped()
        if self.validator.is_due():  # the previous process was stopped within it
            self._evaluate()
        self._send(Started(parity_seconds=round(self.parity_seconds, 3), dry_run_seconds=dry_run_seconds))
        self.saving.start(self.state.position.step)
        while not self._is_done():
            self._step()
            if self.validator.is_due():
                self._evaluate()
            self._save_or_stop()
        self.validator.report_early_stop()

    def publish(self) -> None:
        self._send(PhaseEntered(phase=JobPhase.publishing))
        self._send(WorkStarted(what="the export of the result"))
        step, validation = self.validator.load_result_weights()
        rows = self.rows
        outcome = Outcome(
            request=self.request,
            resolved=self.resolved,
            position=self.state.position,
            inexact_resumes=self.state.inexact_resumes,
            result_step=step,
            validation=validation,
            chat_template=rows.chat_template,
            turn_ends=rows.turn_ends,
            eos=rows.eos,
            tokenizer=self.tokenizing.tokenizer(),
        )
        path = publish(self.model, outcome)
        reports = publish_reports(self.request.work_dir, self._write_reports)
        self.writer.wait()
        self._send(Finished(path=path, reports=reports))

    def _write_reports(self, folder: Path) -> None:
        last = self.state.position.step
        write_row_losses(folder / ROW_LOSSES, self.rows.training, self.state.row_losses, self.epochs, last)
        if self.rows.skipped_path is not None:
            shutil.copy(self.rows.skipped_path, folder)

    def _step(self) -> None:
        step = self.state.position.step + 1
        started = time.monotonic()
        rows = self.epochs.rows(step)
        examples = [self.rows.training[row] for row in rows]
        watch = partial(self._report_batch, f"step {step}")
        found, of_step = self.stepping.take_step(step, examples, watch, self._send_event)
        means = found.means()
        loss = means["loss"]
        self.state.row_losses[rows] = torch.tensor([found.by_line[example.line] for example in examples])

        num_tokens = sum(example.num_tokens for example in examples)
        position = self.state.position
        position.step, position.num_tokens, position.last_loss = step, position.num_tokens + num_tokens, loss
        position.first_loss = loss if position.first_loss is None else position.first_loss
        values = {
            **means,
            **of_step,
            "tokens_per_second": num_tokens / (time.monotonic() - started),
            "epoch": step / self.epochs.steps_per_epoch,
            "num_tokens": float(position.num_tokens),
            "peak_memory_bytes": float(peak_memory(self.model.plan.device)),
        }
        self._send(MetricsMessage(step=step, values=values))

    def _run_dry_run(self) -> float:
        """Run the dry run and return its seconds."""
        self._send(WorkStarted(what="the dry run"))
        started = time.monotonic()
        rows, scratch = self.rows, self.request.work_dir / "dry_run"
        batch = self.fallback.run(
            self.state.position.step + 1,
            lambda: run_dry_run(self.model, rows.training, rows.validation, self.training.batch_size),
        )
        began = time.thread_time()
        try:
            write_checkpoint(scratch, take_snapshot(self.state, fingerprint(self.request, self.plan)))
            self.saving.add_cost(time.thread_time() - began)
        except (OSError, SafetensorError) as error:
            text = f"The dry run could not write a checkpoint ({error}). Later checkpoints will fail in the same way."
            warn(self.channel, "checkpoint_failed", text)
        shutil.rmtree(scratch, ignore_errors=True)
        seconds = round(time.monotonic() - started, 3)
        memory = peak_memory(self.model.plan.device)
        self._send_event(DryRunPassed(num_tokens=batch.num_tokens, peak_memory_bytes=memory, seconds=seconds))
        return seconds

    def _compute_reference(self) -> None:
        """Compute the reference. On a drain during it, the known part is saved as step 0, and the next attempt
        continues from there."""
        if self.request.spec.objective != "dpo":
            return
        reference = ReferencePass(self.model, self.rows, self.epochs, self.total_steps)
        if reference.num_done == reference.num_rows:
            return
        assert self.state.position.step == 0  # any later checkpoint has all of it
        try:
            self.fallback.run(1, lambda: reference.compute(self._watch_reference, self._send_event))
        except StopAsked:
            if self.channel.stop_wish == "drain" and reference.num_done:
                self._save()
            raise

    def _watch_reference(self, batch: MicroBatch) -> None:
        self.channel.raise_if_stopped()
        self._report_batch("the DPO reference", batch)

    def _save_or_stop(self) -> None:
        """Save a checkpoint if one is due, or stop. The last step is neither saved nor drained: the result follows at
        once."""
        wish = self.channel.stop_wish
        last = self._is_done()
        if not last and (wish == "drain" or self.saving.is_due(self.state.position.step)):
            self._save()
        if wish == "cancel" or (wish == "drain" and not last):
            raise StopAsked

    def _save(self) -> None:
        self._send(WorkStarted(what=f"the checkpoint at step {self.state.position.step}"))
        started = time.monotonic()
        self.writer.wait()
        snapshot = take_snapshot(self.state, fingerprint(self.request, self.plan))
        self.saving.record_save(self.state.position.step, time.monotonic() - started)
        self.writer.write(snapshot)

    def _evaluate(self) -> None:
        """Evaluate the model. On a drain during it, the step is saved without the evaluation, and the next attempt
        evaluates first."""
        try:
            self.validator.evaluate()
        except StopAsked:
            if self.channel.stop_wish == "drain":
                self._save()
            raise

    def _report_batch(self, what: str, batch: MicroBatch) -> None:
        self._send(WorkStarted(what=f"{what} ({name_rows(row.line for row in batch.rows)})"))

    def _is_done(self) -> bool:
        return self.state.position.step >= self.total_steps or self.validator.should_stop()

    def _total_steps(self) -> int:
        if self.training.max_steps is not None:
            return self.training.max_steps
        assert self.training.epochs is not None
        return self.epochs.num_steps(self.training.epochs)

    def _resume(self, checkpoint: LoadedCheckpoint) -> None:
        self.state.inexact_resumes = check_resumable(self.request, self.plan, checkpoint, self.channel)
        restore(checkpoint, self.state)

    def _send(self, message: TrainingMessage) -> None:
        self.channel.send(message)

    def _send_event(self, event: JobEvent) -> None:
        self.channel.send(EventMessage(event=event))

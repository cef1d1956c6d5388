"""Fine-tunes on answers or on preferences, from a request to a result folder. Reads top to bottom."""

import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError

from app.domain.events.job_events import DryRunPassed, EarlyStopped, Evaluated, JobEvent, ModelLoaded
from app.domain.jobs.state import JobPhase
from app.domain.jobs.training_config import TrainingSpec
from worker.training.checkpoint.best_weights import hold_weights
from worker.training.checkpoint.checkpoint import (
    Checkpoint,
    Position,
    TrainState,
    load_weights,
    read_checkpoint,
    read_position,
    restore,
    take_snapshot,
    write_checkpoint,
)
from worker.training.checkpoint.fingerprint import check_resumable, earlier_plan, fingerprint, get_machine_fingerprint
from worker.training.checkpoint.saving import SaveTimes
from worker.training.checkpoint.train_state import Evaluation, Evaluations
from worker.training.checkpoint.writer import CheckpointWriter
from worker.training.data.dataset import Rows, prepare_rows, warn
from worker.training.data.packing import MicroBatch
from worker.training.data.row_losses import NAME as ROW_LOSSES
from worker.training.data.row_losses import make_unknown_losses, write_row_losses
from worker.training.loop.dpo_reference import ReferencePass
from worker.training.loop.dry_run import run_dry_run
from worker.training.loop.evaluation import evaluate
from worker.training.loop.export import Outcome, publish, publish_reports
from worker.training.loop.objectives import objective_of
from worker.training.loop.oom_fallback import OutOfMemoryFallback
from worker.training.loop.optimizer import explain_fallback, make_optimizer
from worker.training.loop.setup import choose_paths, quantize_before_rows
from worker.training.loop.stepping import Stepping
from worker.training.model.adapter_file import AdapterFile
from worker.training.model.adapter_init import start_adapter
from worker.training.model.device import peak_memory
from worker.training.model.loading import Model, load_config, load_model
from worker.training.model.memory_plan import make_plan
from worker.training.model.out_of_memory import is_out_of_memory
from worker.training.rows.sampler import BatchSampler
from worker.training.rows.tokenize import TokenizingHere
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

T = TypeVar("T")


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
    """Prepare a training. Rows come first: they are quick to read, and their errors can be reported without a model."""
    channel.send(PhaseEntered(phase=JobPhase.preparing))
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import the compiler
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it cost 6 % of a step
    config = load_config(request.base_model_path)
    tokenizing = tokenizing or TokenizingHere()
    tokenizing.begin(request)
    checkpoint = read_checkpoint(request.checkpoint_path) if request.checkpoint_path else None
    earlier = earlier_plan(request, checkpoint.fingerprint) if checkpoint else request.resolved
    cache = quantize_before_rows(request, config, earlier, channel)
    rows = prepare_rows(request, tokenizing.rows(channel.raise_if_stopped, channel.send), channel)
    plan = make_plan(request, config, rows.training.longest, earlier)
    channel.send(WorkStarted(what="the loading of the model"))
    started = time.monotonic()
    model = load_model(request.base_model_path, config, request.spec, plan, cache)
    start_adapter(model, request, rows.training.documents())
    loaded_at = time.monotonic()
    channel.send(WorkStarted(what="the parity check of the fast paths"))
    choose_paths(model, request, channel)
    parity_seconds = time.monotonic() - loaded_at
    loaded = ModelLoaded(
        num_parameters=model.num_parameters,
        num_trainable_parameters=model.num_trainable,
        seconds=round(loaded_at - started, 3),
    )
    channel.send(EventMessage(event=loaded))
    if (why := explain_fallback(request.spec.training, plan.device, request.spec.adapter)) is not None:
        warn(channel, "optimizer_fallback", why)
    return TrainingLoop(request, channel, tokenizing, rows, model, checkpoint, parity_seconds=parity_seconds)


class TrainingLoop:
    """Runs one training, from its first step or a checkpoint's to its result."""

    def __init__(
        self,
        request: TrainingRequest,
        channel: Channel,
        tokenizing: Tokenizing,
        rows: Rows,
        model: Model,
        checkpoint: Checkpoint | None,
        *,
        parity_seconds: float,
    ):
        self.request, self.channel, self.tokenizing, self.rows, self.model = request, channel, tokenizing, rows, model
        self.parity_seconds = parity_seconds
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
            adapter=AdapterFile.of(model, request),
            references=rows.references,
        )
        self.fallback = OutOfMemoryFallback(request, model, rows, self.optimizer, channel)
        self.stepping = Stepping(
            model, self.objective, self.optimizer, self.scaler, self.fallback, self.training, self.total_steps
        )
        machine = get_machine_fingerprint(request, model.plan.device)
        self.saving = SaveTimes(self.training, self.total_steps)
        if self.training.save_every == "auto":
            model.plan = replace(model.plan, save_every=self.saving.every)
        self.writer = CheckpointWriter(request.work_dir / "checkpoints", channel, machine, self.saving.add_cost)
        if checkpoint is not None:
            self._resume(checkpoint)

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
        if self._evaluation_due():  # the previous process was stopped within it
            self._evaluate()
        self._send(Started(parity_seconds=round(self.parity_seconds, 3), dry_run_seconds=dry_run_seconds))
        self.saving.start(self.state.position.step)
        while not self._is_done():
            self._step()
            if self._evaluation_due():
                self._evaluate()
            self._save_or_stop()
        self._report_early_stop()

    def publish(self) -> None:
        self._send(PhaseEntered(phase=JobPhase.publishing))
        self._send(WorkStarted(what="the export of the result"))
        step, validation = self._load_result_weights()
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

    def _evaluation_due(self) -> bool:
        step, last = self.state.position.step, self.state.evaluations.last
        every = self.training.eval_every or self.epochs.steps_per_epoch
        due = step > 0 and (step % every == 0 or step == self.total_steps)
        return due and bool(self.rows.validation) and (last is None or last.step != step)

    def _evaluate(self) -> None:
        """Evaluate the model. On a drain during it, the step is saved without the evaluation, and the next attempt
        evaluates first."""
        self._send(PhaseEntered(phase=JobPhase.evaluating))
        step = self.state.position.step
        try:
            result = self.fallback.run(
                self.state.position.step + 1,
                lambda: evaluate(self.model, self.objective, self.rows.validation, step, self._watch_evaluation),
            )
        except StopAsked:
            if self.channel.stop_wish == "drain":
                self._save()
            raise
        stopping = self.training.early_stopping
        is_best = self.state.evaluations.add(result, stopping.min_delta if stopping else 0.0)
        if is_best and self.training.result == "best":
            self.state.best_weights = hold_weights(self.model.trainable, self.request.work_dir)
        values = {f"validation_{name}": value for name, value in result.values().items()}
        self._send(MetricsMessage(step=step, values=values))
        self._send_event(Evaluated(step=step, **values))
        self._send(PhaseEntered(phase=JobPhase.training))

    def _watch_evaluation(self, batch: MicroBatch) -> None:
        self.channel.raise_if_stopped()
        self._report_batch(f"the evaluation after step {self.state.position.step}", batch)

    def _report_batch(self, what: str, batch: MicroBatch) -> None:
        self._send(WorkStarted(what=f"{what} ({name_rows(row.line for row in batch.rows)})"))

    def _is_done(self) -> bool:
        return self.state.position.step >= self.total_steps or self._is_stopped_early()

    def _is_stopped_early(self) -> bool:
        return self.state.evaluations.should_stop(self.training.early_stopping)

    def _report_early_stop(self) -> None:
        step, best = self.state.position.step, self.state.evaluations.best
        if self._is_stopped_early() and step < self.total_steps and best is not None:
            self._send_event(EarlyStopped(step=step, best_step=best.step, best_validation_loss=best.loss))

    def _load_result_weights(self) -> tuple[int, Evaluation | None]:
        """Load the result's weights into the model, and return their step and its evaluation."""
        state = self.state
        if state.best_weights is None or state.evaluations.best is None:
            return state.position.step, state.evaluations.last
        load_weights(state.trainable, state.best_weights)
        return state.evaluations.best.step, state.evaluations.best

    def _total_steps(self) -> int:
        if self.training.max_steps is not None:
            return self.training.max_steps
        assert self.training.epochs is not None
        return self.epochs.num_steps(self.training.epochs)

    def _resume(self, checkpoint: Checkpoint) -> None:
        self.state.inexact_resumes = check_resumable(self.request, self.plan, checkpoint, self.channel)
        restore(checkpoint, self.state)

    def _send(self, message: TrainingMessage) -> None:
        self.channel.send(message)

    def _send_event(self, event: JobEvent) -> None:
        self.channel.send(EventMessage(event=event))

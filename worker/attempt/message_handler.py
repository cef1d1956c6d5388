"""Records what the training process of an attempt reports."""

from worker.attempt.checkpoint_uploader import CheckpointUploader
from worker.attempt.event_reporter import EventReporter
from worker.attempt.fenced_writer import FencedWriter
from worker.attempt.metrics.reporter import Reporter
from worker.training.runtime.messages import (
    CheckpointWritten,
    ChildMessage,
    EventMessage,
    MetricsMessage,
    PhaseEntered,
    Planned,
    Replanned,
    Started,
)


class MessageHandler:
    """Passes each message to the component that records it."""

    def __init__(
        self,
        fence: FencedWriter,
        reporter: Reporter,
        event_reporter: EventReporter,
        checkpoint_uploader: CheckpointUploader,
    ) -> None:
        self._fence, self._reporter, self._event_reporter = fence, reporter, event_reporter
        self._checkpoint_uploader = checkpoint_uploader
        self.used_standby_process = False
        """Says whether the training process had the model's tokenizer loaded when it received the job."""

    def record_metrics(self, message: MetricsMessage) -> None:
        """Record metrics, on the thread that reads the pipe. It neither blocks nor raises."""
        self._reporter.record(message)

    def handle(self, message: ChildMessage) -> None:
        match message:
            case PhaseEntered():
                self._event_reporter.report(message.phase)
            case EventMessage():
                self._event_reporter.report(message.event)
            case CheckpointWritten():
                self._checkpoint_uploader.queue_checkpoint(message)
            case Planned() | Replanned() | Started():
                self._event_reporter.flush()
                self._record_plan_or_start(message)

    def write_due(self) -> None:
        """Write the metrics and events that wait, at most once a second."""
        if self._reporter.flush_if_due():
            self._event_reporter.write_queued()

    def keep_log(self, tail: str) -> None:
        self._fence.write(lambda attempt: attempt.keep_log(tail), "keep_log")

    def _record_plan_or_start(self, message: Planned | Replanned | Started) -> None:
        match message:
            case Planned():
                self._reporter.total_steps = message.total_steps
                plan = message.resolved, message.total_steps, message.start_step, message.inexact_resumes
                self._fence.write(lambda attempt: attempt.plan(*plan), "plan")
            case Replanned():
                self._fence.write(lambda attempt: attempt.replan(message.resolved), "replan")
            case Started():
                checks = message.parity_seconds, message.dry_run_seconds, self.used_standby_process
                self._fence.write(lambda attempt: attempt.training_started(*checks), "start")

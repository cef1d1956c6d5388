"""Runs the training process of an attempt: starts it or takes the standby process, listens to it, asks it to stop, and
ends it."""

import math
import queue
import time

import structlog

from app.errors import StaleAttempt
from app.jobs.queue.repository import Claim
from app.settings import Settings
from worker.attempt.heartbeat import Heartbeat
from worker.attempt.message_handler import MessageHandler
from worker.attempt.watchdog import StopRequests, Watchdog, explain_exit
from worker.processes.standby import StandbyProcess
from worker.processes.training import TrainingProcess
from worker.training.runtime.messages import ChildMessage, Failed, Finished, Stop, Stopped, TrainingRequest

log = structlog.get_logger()
TICK_SECONDS = 0.2


class ChildSession:
    def __init__(
        self,
        settings: Settings,
        claim: Claim,
        heartbeat: Heartbeat,
        stop_requests: StopRequests,
        messages: MessageHandler,
    ) -> None:
        self._settings, self._claim, self._heartbeat = settings, claim, heartbeat
        self._stop_requests, self._messages = stop_requests, messages
        self._requested: Stop | None = None
        """Is the stop that the process was last asked for."""
        self._kill_at = math.inf
        """Is when a process that was asked to stop is killed."""

    def run(self, request: TrainingRequest, standby: StandbyProcess) -> ChildMessage:
        """Run the training process to its end, handling its messages. Return its last message, or a failure if it sent
        none."""
        ready = standby.take(request.base_model_path)
        if ready is not None:
            last = self._run_in(ready, request)
            if ready.begun or not isinstance(last, Failed):
                return last
            log.warning("the standby process died before its job began", job=self._claim.job_id)
        assert request.log_path is not None
        return self._run_in(TrainingProcess.logging_to(request.log_path), request)

    def _run_in(self, child: TrainingProcess, request: TrainingRequest) -> ChildMessage:
        self._requested, self._kill_at = None, math.inf
        is_preloaded = child.ready is not None and child.ready.base_model_path == request.base_model_path
        self._messages.used_standby_process = is_preloaded
        child.begin(request, self._messages.record_metrics)
        self._heartbeat.log_tail = child.log_tail
        try:
            last = self._listen(child)
            if last is None:
                child.wait_for_exit()
        finally:
            code = child.end()
            self._messages.keep_log(child.log_tail())
        return explain_exit(last, child, code)

    def _listen(self, child: TrainingProcess) -> ChildMessage | None:
        last: ChildMessage | None = None
        watchdog = Watchdog(child, self._heartbeat, self._settings.stall_timeout_seconds)
        while True:
            if self._heartbeat.stale:
                raise StaleAttempt
            self._pass_on_stop(child)
            if last is None and (failure := watchdog.find_failure()):
                return failure
            self._messages.write_due()
            try:
                message = child.messages.get(timeout=TICK_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                return last or (Stopped(step=0) if self._requested else None)
            if isinstance(message, Finished | Failed | Stopped):
                last = message
            self._messages.handle(message)

    def _pass_on_stop(self, child: TrainingProcess) -> None:
        """Ask the process to stop if that is requested, and kill it if it does not stop in time."""
        stop = self._stop_requests.find()
        if stop and stop != self._requested:
            child.request_stop(stop)
            self._requested = stop
            settings = self._settings
            allowed = settings.drain_timeout_seconds if stop.why == "drain" else settings.stop_timeout_seconds
            self._kill_at = min(self._kill_at, time.monotonic() + allowed)
        if time.monotonic() > self._kill_at:
            child.kill()

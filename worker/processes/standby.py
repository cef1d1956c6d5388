"""Keeps a training process ready: imports done, the last model's tokenizer loaded, nothing on the GPU.

It serves one job and then ends, like any training process. The next one is started when no job is queued, so that
imports do not slow a training. When the worker ends for any reason, the process's pipe closes and it exits."""

import threading
import time
from pathlib import Path

import structlog

from worker.processes.training import TrainingProcess

log = structlog.get_logger()

PATIENCE_SECONDS = 120.0
"""A standby process that is not ready after this time counts as hung."""


class StandbyProcess:
    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._last_model: Path | None = None
        self._child: TrainingProcess | None = None
        self._retry_at = 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start a process for the last job's model, unless there is one already."""
        with self._lock:
            if self._child is not None and not is_healthy(self._child):
                self._drop()
            if not self._wanted or self._child is not None or time.monotonic() < self._retry_at:
                return
            try:
                self._child = TrainingProcess()
            except OSError as error:
                log.warning("could not start a standby process; jobs start without one", error=str(error))
                return
            self._child.preload(self._last_model)

    def take(self, base_model_path: Path) -> TrainingProcess | None:
        """Return the process for a job on that model; the caller must end it. Return None if there is no healthy
        process."""
        with self._lock:
            self._last_model = base_model_path
            if self._child is not None and not is_healthy(self._child):
                self._drop()
            child, self._child = self._child, None
            return child

    def close(self) -> None:
        """End the process and start no more."""
        with self._lock:
            child, self._child, self._wanted = self._child, None, False
        if child is not None:
            child.end()

    def _drop(self) -> None:
        """End an unusable process. If it never became ready, wait before starting another one."""
        assert self._child is not None
        child, self._child = self._child, None
        if child.ready is None:
            self._retry_at = time.monotonic() + PATIENCE_SECONDS
        log.warning("removed an unusable standby process", pid=child.pid, code=child.end())


def is_healthy(child: TrainingProcess) -> bool:
    waited = time.monotonic() - child.started_at
    return child.is_alive() and (child.ready is not None or waited < PATIENCE_SECONDS)

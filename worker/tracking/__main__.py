"""Runs the tracking process: `python -m worker.tracking`, with the credentials of one tracker. See `protocol`."""

import importlib
import os
import queue
import re
import sys
import threading
from collections.abc import Mapping
from typing import Final

from app.domain.jobs.state import JobState
from app.files import print_trace
from worker.tracking.protocol import Answer, CloseRun, Done, Open, Steps, TrackingFailed, TrackingRequest, parse_request
from worker.tracking.run import Run

RUNS: Final = {
    "wandb": ("worker.tracking.wandb_run", "WandbWriter"),
    "mlflow": ("worker.tracking.mlflow_run", "MlflowWriter"),
    "tensorboard": ("worker.tracking.tensorboard_file", "TensorboardFile"),
}
"""Only the requested class is imported."""
ORPHAN_SECONDS: Final = 30.0
"""Limits the time for closing the run once the worker has ended; nothing else ends the process then."""
MAX_CHARS: Final = 300
SECRET: Final = re.compile(r"KEY|TOKEN|PASSWORD|SECRET")
IN_A_URL: Final = re.compile(r"(?<=://)[^/@\s]+@")


class TrackingChannel:
    """Owns the process's stdin and stdout. Other output to stdout is redirected to stderr, the log."""

    def __init__(self) -> None:
        self._output = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> TrackingRequest | None:
        """Return the next request; None when the worker has ended."""
        line = self._lines.get()
        return None if line is None else parse_request.validate_json(line)

    def answer(self, answer: Answer) -> None:
        self._output.write(answer.model_dump_json() + "\n")
        self._output.flush()

    def _listen(self) -> None:
        """Read stdin in a thread, since a tracker may hang while the worker dies."""
        for line in sys.stdin.buffer:
            self._lines.put(line)
        self._lines.put(None)
        end = threading.Timer(ORPHAN_SECONDS, os._exit, [1])
        end.daemon = True
        end.start()


def main() -> None:
    channel = TrackingChannel()
    run: Run | None = None
    while True:
        request = channel.receive()
        try:
            match request:
                case Open():
                    module, name = RUNS[request.integration.type]
                    run = getattr(importlib.import_module(module), name)(request)
                    channel.answer(Done(last_step=run.last_step))
                case Steps():
                    assert run is not None
                    run.log(request.steps)
                    channel.answer(Done())
                case CloseRun() | None:
                    if run is not None:
                        run.close(request.state if request else JobState.queued)
                    if request is not None:
                        channel.answer(Done())
                    return
        except Exception as error:
            print_trace()
            channel.answer(TrackingFailed(why=remove_secrets(f"{type(error).__name__}: {error}", os.environ)))
            os._exit(1)  # A library's exit handler may wait for the tracker.


def remove_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Remove secrets from an error message. Trackers repeat their input there, and users read it."""
    for name, value in environment.items():
        if value and SECRET.search(name):
            text = text.replace(value, "…")
    return IN_A_URL.sub("", " ".join(text.split()))[:MAX_CHARS]


if __name__ == "__main__":
    main()

"""Runs the training process as `python -m worker.training` does, with a real memory limit from some point on.

The arguments are the message after which the limit starts (a step, or `model_loaded`), and the allowed bytes in
addition to those held then.
"""

import resource
import sys
from pathlib import Path

from worker.training import __main__ as training
from worker.training.runtime.channel import Channel
from worker.training.runtime.messages import EventMessage, MetricsMessage, TrainingMessage

MOMENT, ROOM = sys.argv[1], int(sys.argv[2])


class NarrowChannel(Channel):
    def send(self, message: TrainingMessage) -> None:
        super().send(message)
        step = str(message.step) if isinstance(message, MetricsMessage) else None
        event = message.event.type if isinstance(message, EventMessage) else None
        if MOMENT in (step, event):
            resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + ROOM, resource.RLIM_INFINITY))


def data_bytes() -> int:
    """Return what RLIMIT_DATA counts: private writable memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmData:")[1].split()[0]) * 1024


if __name__ == "__main__":
    training.Channel = NarrowChannel  # type: ignore[misc]
    sys.exit(training.main())

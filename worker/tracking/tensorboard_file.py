"""Writes `tensorboard.tfevents`, the curves in TensorBoard's format."""

import sys
import time
from collections.abc import Sequence
from typing import Any, cast

# tensorboardX imports these packages if they are installed, torch with a gigabyte among them, and needs none of them
# for scalars.
cast(Any, sys.modules).update(dict.fromkeys(("torch", "boto3", "onnx")))

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from app.domain.jobs.state import JobState
from worker.tracking.protocol import Open, Step


class TensorboardFile:
    last_step = None

    def __init__(self, asked: Open) -> None:
        self._file = RecordWriter(str(asked.file))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def log(self, steps: Sequence[Step]) -> None:
        for step in steps:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in step.values.items()]
            self._write(Event(wall_time=step.at, step=step.step, summary=Summary(value=values)))

    def close(self, state: JobState) -> None:
        self._file.flush()
        self._file.close()

    def _write(self, event: Any) -> None:
        self._file.write(event.SerializeToString())

"""Yields a job's events and metric points as they occur, over connections that may break."""

import dataclasses
import json
import time
from collections.abc import Iterator

import httpx2

from tunewright.errors import ConnectionFailed, TunewrightError
from tunewright.transport import EVENTS, METRICS, Transport, jittered
from tunewright.wire import Event, Job, MetricPoint

Update = Event | MetricPoint

SILENCE = httpx2.Timeout(60, connect=10, read=45)
"""The server sends at least a keep-alive every 15 seconds."""
END = httpx2.ServerSentEvent("end")
"""Ends a stream. A response with status 204 means the same: there is nothing more, do not reconnect."""
MOST_SILENT_STREAMS = 3
"""After this many streams in a row without a message the job is polled, since a proxy may be buffering them."""
PATIENCE_SECONDS = 120.0
"""Limits how long a server may be unreachable. A restart takes less."""
POLL_SECONDS = 1.0
FIRST_DELAY_SECONDS = 0.25


class CannotStream(Exception):
    """Raised when a proxy blocks streams; ordinary requests may still work."""


class Outage:
    """Measures how long the server has been unreachable."""

    def __init__(self) -> None:
        self.over()

    def over(self) -> None:
        self.since: float | None = None
        self.delay = FIRST_DELAY_SECONDS

    def wait(self, error: TunewrightError | None = None) -> None:
        """Wait before the next try, or raise the error once PATIENCE_SECONDS have passed."""
        self.since = self.since or time.monotonic()
        if error and time.monotonic() - self.since > PATIENCE_SECONDS:
            raise error
        time.sleep(jittered(self.delay))
        self.delay = min(self.delay * 2, 5.0)


class Watch:
    """Tracks the position in one job's updates: the stream's cursor, and the same position for the polled routes."""

    def __init__(self, transport: Transport, job_id: str) -> None:
        self.transport = transport
        self.job_id = job_id
        self.cursor = ""
        self.event_number = 0
        self.place = (0, 0)
        """Holds the latest attempt and its step."""
        self.told: dict[str, tuple[int, int]] = {}
        """Maps each name to the attempt and step of its last value."""
        self.outage = Outage()
        self.silent_streams = 0

    def updates(self) -> Iterator[Update]:
        follow = self.follow_stream
        while True:
            try:
                yield from follow()
                return
            except CannotStream:
                follow = self.follow_by_polling
            except TunewrightError as error:
                if error.status is not None and error.status < 500:
                    raise
                if isinstance(error.__cause__, httpx2.ReadTimeout):
                    follow = self.follow_by_polling
                self.outage.wait(error)

    def follow_stream(self) -> Iterator[Update]:
        """Yield updates until the message `end`. Raises ConnectionFailed if the stream ends without it."""
        for message in self.messages():
            self.outage.over()
            if message.event == END.event:
                return
            self.cursor = message.id or self.cursor
            if update := read_update(message):
                self.note(update)
                yield update
        raise ConnectionFailed(f"The stream of job {self.job_id} ended early.")

    def messages(self) -> Iterator[httpx2.ServerSentEvent]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.cursor} if self.cursor else {})
        path = ("jobs", self.job_id, "stream")
        with self.transport.stream("GET", *path, headers=headers, timeout=SILENCE) as response:
            if response.status_code == httpx2.codes.NO_CONTENT:
                yield END
                return
            self.silent_streams += 1
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            if not is_stream or self.silent_streams > MOST_SILENT_STREAMS:
                raise CannotStream
            for message in httpx2.EventSource(response, max_event_size=None):
                if message.data:  # A message without data only sets the delay before the next connection.
                    self.silent_streams = 0
                    yield message

    def follow_by_polling(self) -> Iterator[Update]:
        while True:
            # The job is read first: once it has ended, all of its updates exist.
            job = Job.read(self.transport.ask("GET", "jobs", self.job_id))
            yield from self.new_events()
            yield from self.new_points()
            self.outage.over()
            if job.is_final:
                return
            time.sleep(jittered(POLL_SECONDS))

    def new_events(self) -> Iterator[Event]:
        path = ("jobs", self.job_id, "events")
        for raw in self.transport.pages(*path, params={"after": self.event_number}, following=EVENTS):
            event = Event.read(raw)
            self.note(event)
            yield event

    def new_points(self) -> Iterator[MetricPoint]:
        """Yield new points, starting at the last step, because an evaluation may have added values to it."""
        path = ("jobs", self.job_id, "metrics")
        params = {"after_step": self.place[1] - 1}
        for raw in self.transport.pages(*path, params=params, following=METRICS):
            point = MetricPoint.read(raw)
            place = (point.attempt, point.step)
            values = {name: value for name, value in point.values.items() if self.told.get(name, (0, 0)) < place}
            if values:
                point = dataclasses.replace(point, raw=raw | {"values": values}, values=values)
                self.note(point)
                yield point

    def note(self, update: Update) -> None:
        if isinstance(update, MetricPoint):
            self.place = max(self.place, (update.attempt, update.step))
            self.told |= dict.fromkeys(update.values, (update.attempt, update.step))
            return
        self.event_number = update.number
        if update.type in ("job_claimed", "job_resumed"):
            self.place = max(self.place, (update.data["attempt"], update.data.get("step", 0)))


def read_update(message: httpx2.ServerSentEvent) -> Update | None:
    """Parse a message; return None for types that a later server may add."""
    match message.event:
        case "job_event":
            return Event.read(json.loads(message.data))
        case "metrics":
            return MetricPoint.read(json.loads(message.data))
    return None

"""Yields a job's events and metric points as they occur, and reconnects if the connection is lost."""

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
"""Limits the silence on a stream. The server sends at least a keep-alive every 15 seconds."""
END = httpx2.ServerSentEvent("end")
"""Ends a stream. A response with status 204 has the same meaning: there are no more updates."""
MOST_SILENT_STREAMS = 3
"""Limits the consecutive streams without a message. Then the job is polled: a proxy may be buffering streams."""
PATIENCE_SECONDS = 120.0
"""Limits an outage of the server. A restart takes less."""
POLL_SECONDS = 1.0
FIRST_DELAY_SECONDS = 0.25


class CannotStream(Exception):
    """Raised if streams do not work, for example through a proxy. Ordinary requests may still work."""


class Outage:
    """Measures how long the server has been unreachable."""

    def __init__(self) -> None:
        self.end()

    def end(self) -> None:
        self.since: float | None = None
        self.delay = FIRST_DELAY_SECONDS

    def wait(self, error: TunewrightError | None = None) -> None:
        """Wait before the next try, or raise the error after PATIENCE_SECONDS."""
        self.since = self.since or time.monotonic()
        if error and time.monotonic() - self.since > PATIENCE_SECONDS:
            raise error
        time.sleep(jittered(self.delay))
        self.delay = min(self.delay * 2, 5.0)


class Watch:
    """Follows one job's updates. Keeps the position for the stream and for polling."""

    def __init__(self, transport: Transport, job_id: str) -> None:
        self.transport = transport
        self.job_id = job_id
        self.cursor = ""
        self.event_number = 0
        self.position = (0, 0)
        """Is the latest attempt and its last step."""
        self.last_positions: dict[str, tuple[int, int]] = {}
        """Maps each metric's name to the attempt and step of its last value."""
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
        for message in self.read_messages():
            self.outage.end()
            if message.event == END.event:
                return
            self.cursor = message.id or self.cursor
            if update := read_update(message):
                self.record_position(update)
                yield update
        raise ConnectionFailed(f"The event stream of job {self.job_id} ended early.")

    def read_messages(self) -> Iterator[httpx2.ServerSentEvent]:
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
            # The job is read first: all updates exist once it has ended.
            job = Job.read(self.transport.request_json("GET", "jobs", self.job_id))
            yield from self.fetch_events()
            yield from self.fetch_points()
            self.outage.end()
            if job.is_final:
                return
            time.sleep(jittered(POLL_SECONDS))

    def fetch_events(self) -> Iterator[Event]:
        path = ("jobs", self.job_id, "events")
        for raw in self.transport.iterate_pages(*path, params={"after": self.event_number}, following=EVENTS):
            event = Event.read(raw)
            self.record_position(event)
            yield event

    def fetch_points(self) -> Iterator[MetricPoint]:
        """Yield new points, beginning with the last step: an evaluation may have added values to it."""
        path = ("jobs", self.job_id, "metrics")
        params = {"after_step": self.position[1] - 1}
        for raw in self.transport.iterate_pages(*path, params=params, following=METRICS):
            point = MetricPoint.read(raw)
            position = (point.attempt, point.step)
            seen = self.last_positions
            values = {name: value for name, value in point.values.items() if seen.get(name, (0, 0)) < position}
            if values:
                point = dataclasses.replace(point, raw=raw | {"values": values}, values=values)
                self.record_position(point)
                yield point

    def record_position(self, update: Update) -> None:
        if isinstance(update, MetricPoint):
            self.position = max(self.position, (update.attempt, update.step))
            self.last_positions |= dict.fromkeys(update.values, (update.attempt, update.step))
            return
        self.event_number = update.number
        if update.type in ("job_claimed", "job_resumed"):
            self.position = max(self.position, (update.data["attempt"], update.data.get("step", 0)))


def read_update(message: httpx2.ServerSentEvent) -> Update | None:
    """Parse a message. Returns None for types that this client does not know."""
    match message.event:
        case "job_event":
            return Event.read(json.loads(message.data))
        case "metrics":
            return MetricPoint.read(json.loads(message.data))
    return None

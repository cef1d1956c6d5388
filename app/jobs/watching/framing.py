"""Writes server-sent events, for a stream of one job and for a stream of several."""

from typing import Final, Protocol

from app.jobs.watching.cursors import StreamCursor, encode_cursors

RETRY: Final = b"retry: 2000\n\n"
PING: Final = b": ping\n\n"


class Framing(Protocol):
    """Frames events of jobs. `job_id` names the job, `place` is the reader's position in it afterwards, and `data` is
    a JSON object."""

    def frame(self, kind: str, data: str, job_id: str, place: StreamCursor) -> bytes: ...


class OneJob:
    def frame(self, kind: str, data: str, job_id: str, place: StreamCursor) -> bytes:
        return f"event: {kind}\ndata: {data}\nid: {place.encode()}\n\n".encode()


class SeveralJobs:
    """Begins each object with the job's id, and gives the positions in all the jobs as the event's id."""

    def __init__(self, places: dict[str, StreamCursor]) -> None:
        self._places = dict(places)

    def frame(self, kind: str, data: str, job_id: str, place: StreamCursor) -> bytes:
        self._places[job_id] = place
        id = encode_cursors(self._places)
        return f"event: {kind}\ndata: {with_job_id(job_id, data)}\nid: {id}\n\n".encode()


def with_job_id(job_id: str, data: str) -> str:
    rest = data[1:] if data == "{}" else f",{data[1:]}"
    return f'{{"job_id":"{job_id}"{rest}'

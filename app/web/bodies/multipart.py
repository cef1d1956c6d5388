"""Parses a multipart form that contains one file as it arrives: the file is never whole in memory."""

import re
from collections.abc import Callable, Collection
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import NamedTuple
from urllib.parse import unquote

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from app.domain.artifact import StoredFile
from app.domain.file_name import clean_filename, is_unsafe_filename
from app.errors import FieldError, InvalidMultipart, TooLarge, UnsupportedMediaType
from app.storage import Storage
from app.web.bodies.upload_body import BodyDigest, chunks_of
from app.web.problems import pointer

MAX_HEADERS = 8
MAX_HEADER_BYTES = 4096
MAX_VALUE_BYTES = 1000
MAX_FRAME_BYTES = 2**16
"""Limits what a body may contain besides the file: boundaries, headers, other fields, and what comes before and after
them."""


class Received(NamedTuple):
    filename: str
    stored: StoredFile
    unsafe_filename: bool
    """Is true if characters that do not print were removed from the name."""
    values: dict[str, str]
    """Holds the values of the other fields that were sent."""


class FileForm:
    """Parses a form incrementally. It may contain one file, in the part `name`, and besides only the given other
    fields."""

    def __init__(self, content_type: str, name: str = "file", others: Collection[str] = ()) -> None:
        self.name, self.others = name, others
        other_parts = f"no parts other than {', '.join(others)}" if others else "no other part"
        self.how = f'send the file as the part "{name}", as `curl -F {name}=@data.jsonl` does, and {other_parts}'
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise UnsupportedMediaType(f"Send multipart/form-data: {self.how}.")
        if not options.get(b"boundary"):
            raise InvalidMultipart("The Content-Type has no boundary; let your HTTP client set that header.")
        self.filename: str | None = None
        self.unsafe_filename = False
        self.is_complete = False
        self.values: dict[str, str] = {}
        self._data: list[bytes] = []
        self._field, self._value = bytearray(), bytearray()
        self._disposition = ""
        self._other: str | None = None
        self._text = bytearray()
        callbacks = {
            "on_part_begin": self._begin_part,
            "on_part_data": self._collect_data,
            "on_part_end": self._end_part,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                callbacks,  # type: ignore[arg-type]
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise InvalidMultipart(f"The boundary is invalid: {error}.") from error

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes of the file in the next chunk of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidMultipart(f"The body is not a multipart form: {error}.") from error
        data, self._data = self._data, []
        return data[0] if len(data) == 1 else b"".join(data)

    def check(self) -> str:
        """Return the file's name, after the whole body was fed."""
        if not self.is_complete:
            raise InvalidMultipart(f"The form is incomplete; {self.how}.")
        if self.filename is None:
            raise refused(self.name, "missing", f"The form has no file; {self.how}.")
        return self.filename

    def _begin_part(self) -> None:
        self._disposition, self._other = "", None
        self._text.clear()

    def _collect_data(self, data: bytes, start: int, end: int) -> None:
        if self._other is None:
            self._data.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_VALUE_BYTES:
            raise refused(self._other, "too_long", f"The value is longer than {MAX_VALUE_BYTES:,} bytes.")

    def _end_part(self) -> None:
        if self._other is not None:
            self.values[self._other] = self._text.decode("utf-8", "replace")

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value.decode("utf-8", "replace")
        self._field.clear()
        self._value.clear()

    def _open_part(self) -> None:
        name, filename = read_disposition(self._disposition)
        if name in self.others:
            if name in self.values:
                raise refused(name, "duplicate_field", "The form has this field more than once; send it once.")
            self._other = name
            return
        if name != self.name:
            raise refused(name, "unknown_field", f"The form has an unknown part {name!r:.80}; {self.how}.")
        if self.filename is not None:
            raise refused(name, "duplicate_field", "The form has more than one file; send one file per request.")
        if filename is None:
            message = f'The part "{name}" is text without a file name; {self.how} (note the "@").'
            raise refused(name, "no_file", message)
        self.filename, self.unsafe_filename = clean_filename(filename), is_unsafe_filename(filename)

    def _end(self) -> None:
        self.is_complete = True


def refused(name: str | None, code: str, message: str) -> InvalidMultipart:
    error = InvalidMultipart(message)
    error.errors = (FieldError(pointer([name[:80]]), code, message),) if name else ()
    return error


def _too_large(name: str, max_bytes: int) -> TooLarge:
    error = TooLarge(f"The file is larger than the limit of {max_bytes:,} bytes; split it.")
    error.errors = (FieldError(pointer([name]), error.code, str(error)),)
    return error


async def receive(
    request: Request,
    storage: Storage,
    key: str,
    max_bytes: int,
    name: str = "file",
    others: Collection[str] = (),
    check: Callable[[dict[str, str]], object] = dict,
) -> Received:
    """Store the form's file under `key`. An error leaves nothing behind, also if `check` refuses the other fields."""
    form = FileForm(request.headers.get("content-type", ""), name, others)
    whole, num_bytes = BodyDigest(request), 0
    async with storage.writer(key) as writer:
        async for chunk in chunks_of(request):
            num_bytes += len(chunk)
            whole.update(chunk)
            await writer.write(form.feed(chunk))
            if writer.size > max_bytes or num_bytes > max_bytes + MAX_FRAME_BYTES:
                raise _too_large(name, max_bytes)
        filename = form.check()
        whole.check()
        check(form.values)
    return Received(filename, await writer.stored(filename), form.unsafe_filename, form.values)


def read_disposition(header: str) -> tuple[str | None, str | None]:
    """Return name and file name of a part. `filename*` (RFC 5987) takes precedence over `filename`, in which clients
    write `%22`, `%0D` and `%0A` for characters that would end the header."""
    message = Message()
    message["content-disposition"] = header
    name = filename = extended = None
    for key, value in message.get_params(header="content-disposition") or []:
        if isinstance(value, tuple):
            extended = collapse_rfc2231_value(value) if key == "filename" else extended
        elif key == "name":
            name = value
        elif key == "filename":
            filename = re.sub("%(?:22|0D|0A)", lambda found: unquote(found[0]), value, flags=re.I)
    return name, filename if extended is None else extended

"""An uploaded file, taken from a multipart body as it arrives and passed on to storage: never whole in memory."""

import re
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import NamedTuple
from urllib.parse import unquote

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from app.domain.artifact import StoredFile
from app.domain.label import clean_filename, is_odd_filename
from app.errors import BadMultipart, TooLarge, UnsupportedMediaType
from app.storage import Storage
from app.web.incoming import BodyDigest, chunks_of

MAX_HEADERS = 8
MAX_HEADER_BYTES = 4096
MAX_FRAME_BYTES = 2**16
"""What a body may hold besides the file: boundaries, headers, and what comes before and after them."""

HOW = 'send the file as the one part "file", as `curl -F file=@data.jsonl` does'


class Upload(NamedTuple):
    filename: str
    stored: StoredFile
    odd_filename: bool
    """Something that does not print was taken out of it."""


class FileForm:
    """The push parser of a form that holds one file and nothing else."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise UnsupportedMediaType(f"Send multipart/form-data: {HOW}.")
        if not options.get(b"boundary"):
            raise BadMultipart("The Content-Type has no boundary; let your HTTP client write that header.")
        self.filename: str | None = None
        self.odd_filename = False
        self.is_complete = False
        self._data: list[bytes] = []
        self._field, self._value = bytearray(), bytearray()
        self._disposition = ""
        callbacks = {
            "on_part_begin": self._begin_part,
            "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
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
            raise BadMultipart(f"The boundary cannot be used: {error}.") from error

    def feed(self, chunk: bytes) -> bytes:
        """The file's bytes in the next chunk of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadMultipart(f"The body is no multipart form: {error}.") from error
        data, self._data = self._data, []
        return data[0] if len(data) == 1 else b"".join(data)

    def _begin_part(self) -> None:
        self._disposition = ""

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value.decode("utf-8", "replace")
        self._field.clear()
        self._value.clear()

    def _open_part(self) -> None:
        name, filename = read_disposition(self._disposition)
        if name != "file":
            raise BadMultipart(f"The form has a part {name!r:.80}; {HOW}, and no other part.")
        if self.filename is not None:
            raise BadMultipart("The form has more than one file; send each by itself.")
        if filename is None:
            raise BadMultipart(f'The part "file" is text, without a file name; {HOW} (mind the "@").')
        self.filename, self.odd_filename = clean_filename(filename), is_odd_filename(filename)

    def _end(self) -> None:
        self.is_complete = True


async def receive(request: Request, storage: Storage, key: str, max_bytes: int) -> Upload:
    """Store the body's file under `key`. Whatever goes wrong on the way leaves nothing behind."""
    form, whole = FileForm(request.headers.get("content-type", "")), BodyDigest(request)
    num_bytes = 0
    async with storage.writer(key) as writer:
        async for chunk in chunks_of(request):
            num_bytes += len(chunk)
            whole.update(chunk)
            await writer.write(form.feed(chunk))
            if writer.size > max_bytes or num_bytes > max_bytes + MAX_FRAME_BYTES:
                raise TooLarge(f"The file is larger than the {max_bytes:,} bytes allowed; split it.")
        if not form.is_complete or form.filename is None:
            raise BadMultipart(f"The form ended before its end, or without a file; {HOW}.")
        whole.check()
    return Upload(form.filename, await writer.stored(form.filename), form.odd_filename)


def read_disposition(header: str) -> tuple[str | None, str | None]:
    """Name and file name of a part. `filename*` (RFC 5987) wins over `filename`, where clients write as `%22`, `%0D`
    and `%0A` what would end the header."""
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

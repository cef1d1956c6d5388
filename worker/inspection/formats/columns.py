"""Renames the keys of rows as the user requested. Values keep their bytes."""

import codecs
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from app.domain.datasets.problem import brief
from worker.inspection.errors import Flawed
from worker.inspection.row_check import count_keys

_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class Renaming:
    def __init__(self, columns: Mapping[str, str]) -> None:
        """`columns` maps each field to the file's name for it."""
        self._targets = {source: target for target, source in columns.items()}

    def name(self, key: str) -> str:
        return self._targets.get(key, key)

    def blocks(self, blocks: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
        for block in blocks:
            yield list(map(self.line, block))

    def line(self, line: bytes) -> bytes:
        """Rename a row's keys. A line that is not a row, or repeats a key, is returned unchanged; the row check reports
        it."""
        if isinstance(line, Flawed):
            return line
        row, mark = line.removeprefix(codecs.BOM_UTF8), b""
        if len(row) < len(line):
            mark = codecs.BOM_UTF8
        try:
            record: dict[str, Any] = _decode(row)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return line
        if self._targets.keys().isdisjoint(record):
            return line
        if len(record) + sum(count_keys(bytes(value)) for value in record.values()) != count_keys(row):
            return line
        renamed = {self.name(key): value for key, value in record.items()}
        if len(renamed) < len(record):
            return self._conflict(record)
        return mark + _encode(renamed) + (b"\r" if line.endswith(b"\r") else b"")

    def _conflict(self, record: Mapping[str, Any]) -> Flawed:
        source, target = next(
            (key, target)
            for key in record
            if (target := self.name(key)) != key and target in record and self.name(target) == target
        )
        message = (
            f"columns maps {brief(target)} to {brief(source)}, but the row also has {brief(target)}. Rename that key."
        )
        return Flawed.of(b"[]", "column_conflict", message)


NO_RENAMING: Final = Renaming({})

"""A file on its way, read a chunk at a time."""

import io
import os
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with the bytes read and the bytes in all."""


class Upload(io.FileIO):
    def __init__(self, path: Path, progress: Progress | None) -> None:
        super().__init__(path, "rb")
        self.filename = os.fsencode(path.name).decode(errors="replace")
        self.progress = progress
        self.total = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size) or b""
        if self.progress:
            self.progress(self.tell(), self.total)
        return chunk

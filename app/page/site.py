"""Reads the web page's files, which stay in memory as long as the process."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from app.web.answers.codings import HIGHEST, compress

STATIC: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"
BUILD_MARK: Final = b"@build@"
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Lists the kinds of files that are served; other files, such as types for an editor, are not."""


class StaticFile(NamedTuple):
    body: bytes
    media_type: str
    digest: str

    def encode(self, coding: str | None) -> bytes:
        return encode(self.body, coding) if coding else self.body


class Site:
    """Holds the files. Their addresses contain the build, a hash of them all, so that a browser may keep a file for
    good, and a tab never mixes the scripts of two versions."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files` are by path, such as `js/main.js`."""
        self.build = hash_files(files)
        self._files = {
            path: StaticFile(body, MEDIA_TYPES[Path(path).suffix], hashlib.blake2b(body, digest_size=8).hexdigest())
            for path, body in files.items()
        }

        # An installation that lacks the files cannot start: it would serve nothing but errors.
        html = self._files.pop(INDEX).body.replace(BUILD_MARK, self.build.encode())
        self.index = StaticFile(html, MEDIA_TYPES[".html"], self.build)
        """Is the document of every view, with the addresses of this build."""

    def find(self, path: str) -> StaticFile | None:
        return self._files.get(path)


def hash_files(files: Mapping[str, bytes]) -> str:
    found = hashlib.blake2b(digest_size=8)
    for path, body in sorted(files.items()):
        found.update(b"%d %d %b" % (len(path.encode()), len(body), path.encode()) + body)
    return found.hexdigest()


@cache
def encode(body: bytes, coding: str) -> bytes:
    """Compress a file as far as possible. It is done once, when a browser first asks for it."""
    return compress(body, coding, HIGHEST[coding])


def read_site(folder: Path = STATIC) -> Site:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in MEDIA_TYPES and path.is_file())
    return Site({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

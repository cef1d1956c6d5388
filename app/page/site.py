"""Reads the web page's files, which stay in memory as long as the process."""

import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from app.web.answers.codings import HIGHEST, compress

STATIC: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"
BUILD_MARK: Final = b"@build@"
PRELOAD_MARK: Final = b"<!-- preload -->"
ENTRY: Final = "js/main.js"
STATIC_IMPORT: Final = re.compile(rb'^(?:import|export)\b[^"\';]*"(\.[^"]+)"', re.MULTILINE)
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
        html = self._files.pop(INDEX).body.replace(PRELOAD_MARK, preload(follow_imports(files, ENTRY)))
        html = html.replace(BUILD_MARK, self.build.encode())
        self.index = StaticFile(html, MEDIA_TYPES[".html"], self.build)
        """Is the document of every view, with the addresses of this build."""

    def find(self, path: str) -> StaticFile | None:
        return self._files.get(path)


def follow_imports(files: Mapping[str, bytes], path: str) -> list[str]:
    """Return the modules that a module imports, directly or not, nearest first."""
    found = {path: None}
    for module in (queue := [path]):
        for name in STATIC_IMPORT.findall(files.get(module, b"")):
            imported = posixpath.normpath(f"{posixpath.dirname(module)}/{name.decode()}")
            if imported not in found:
                found[imported] = None
                queue.append(imported)
    return list(found)[1:]


def preload(modules: Sequence[str]) -> bytes:
    """Return links that let a browser load modules at once, not one after another as it finds the imports."""
    href = f"/ui/{BUILD_MARK.decode()}"
    return "\n    ".join(f'<link rel="modulepreload" href="{href}/{module}">' for module in modules).encode()


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

"""Decompresses gzip and zstd as a stream, within limits that no normal file reaches."""

import gzip
import sys
import zlib
from typing import Final, Protocol

from worker.inspection.errors import Broken
from worker.inspection.formats.source import Source

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_UNPACKED_BYTES: Final = 40 * 10**9
"""Is four times the default limit for uploads."""
MAX_RATIO: Final = 200
"""Text compresses to about a fifth; a decompression bomb to a thousandth (gzip) or a ten-thousandth (zstd)."""
FREE_BYTES: Final = 64 * 2**20
"""Any file may decompress to this size, at any ratio."""
WINDOW_LOG_MAX: Final = 27
"""Allows a zstd window of 128 MiB, the default limit of zstd's command line."""

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
SKIPPABLE: Final = b"\x2a\x4d\x18"
"""Marks a zstd frame without data, after a byte from 0x50 to 0x5f."""


def find_compression(head: bytes) -> str:
    if head.startswith(GZIP):
        return "gzip"
    is_skippable = head[1:4] == SKIPPABLE and 0x50 <= head[0] <= 0x5F
    return "zstd" if head.startswith(ZSTD) or is_skippable else "none"


def check_growth(unpacked: int, packed: int) -> None:
    """Raise Broken if `unpacked` exceeds what `packed` bytes may decompress to."""
    if unpacked > MAX_UNPACKED_BYTES:
        limit = f"{MAX_UNPACKED_BYTES:,} bytes"
    elif unpacked > FREE_BYTES and unpacked > MAX_RATIO * packed:
        limit = f"{MAX_RATIO} times its size"
    else:
        return
    raise Broken(
        "decompressed_too_large", f"The file decompresses to more than {limit}. Send smaller or uncompressed files."
    )


class Reader(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class Unpacked:
    """Reads all members or frames as one stream."""

    def __init__(self, packed: Source, compression: str) -> None:
        self._packed, self._compression, self._num_bytes = packed, compression, 0
        self._file: Reader
        if compression == "gzip":
            self._file = gzip.GzipFile(fileobj=packed, mode="rb")  # type: ignore[call-overload]
        else:
            bounds = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
            self._file = zstd.ZstdFile(packed, options=bounds)  # type: ignore[call-overload]

    def read(self, size: int) -> bytes:
        try:
            # A single step, so that data before the damage is still read.
            chunk = self._file.read1(size)
        except EOFError as error:
            message = f"The {self._compression} data is truncated. Send the complete file."
            raise Broken("truncated_file", message) from error
        except (gzip.BadGzipFile, zlib.error, zstd.ZstdError) as error:
            message = f"The {self._compression} data is corrupt ({str(error)[:100]}). Compress the file again."
            raise Broken("corrupt_compression", message) from error
        self._num_bytes += len(chunk)
        check_growth(self._num_bytes, self._packed.num_read)
        return chunk

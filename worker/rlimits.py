"""What a process that reads users' files may take, and with which code it ends at a limit; it says so of itself."""

import errno
import resource
from typing import Final

OUT_OF_MEMORY: Final = errno.ENOMEM
FILE_TOO_LARGE: Final = errno.EFBIG
DISK_FULL: Final = errno.ENOSPC
"""Exit codes of its own."""


def limit_self(memory_bytes: int, cpu_seconds: int, max_file_bytes: int) -> None:
    """Memory that it may address, time on a processor, and the largest file it may write."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: max_file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))

"""Limits the resources of the calling process, which reads users' files, and defines its exit codes at a limit."""

import errno
import resource
from typing import Final

OUT_OF_MEMORY: Final = errno.ENOMEM
FILE_TOO_LARGE: Final = errno.EFBIG
DISK_FULL: Final = errno.ENOSPC
"""The process exits with these codes."""


def limit_self(memory_bytes: int, cpu_seconds: int, max_file_bytes: int) -> None:
    """Limit the address space, the processor time and the size of written files."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: max_file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))

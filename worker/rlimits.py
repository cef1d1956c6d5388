"""What a process that reads users' files may take; it says so of itself."""

import resource


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

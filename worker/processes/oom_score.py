"""Sets which process the kernel kills first when memory runs out."""

from pathlib import Path

import structlog

log = structlog.get_logger()


def set_oom_score(pid: int, score: str) -> None:
    """Add `score` to the process's out-of-memory score, so that the kernel kills it before others."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text(score)
    except OSError as error:
        log.warning("could not set the out-of-memory score of a child process", error=str(error))

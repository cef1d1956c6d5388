"""Sets which process the kernel kills first when memory runs out."""

from pathlib import Path

import structlog

log = structlog.get_logger()


def let_go_first(pid: int, score: str) -> None:
    """Add `score` to the process's out-of-memory score, so that the kernel kills it before others."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text(score)
    except OSError as error:
        log.warning("the kernel will choose by itself when memory is out", error=str(error))

"""Which process the kernel ends first when memory is out."""

from pathlib import Path

import structlog

log = structlog.get_logger()


def let_go_first(pid: int, score: str) -> None:
    """Have the kernel end this process first when memory is out: `score` is added to what it chooses by."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text(score)
    except OSError as error:
        log.warning("the kernel will choose by itself when memory is out", error=str(error))

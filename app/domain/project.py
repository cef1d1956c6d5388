"""What a project is called, and how far its deletion has come."""

import re
from enum import StrEnum
from typing import Final

FIRST_PROJECT: Final = "default"
"""The project that a new installation begins with."""
PROJECT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class DeletionState(StrEnum):
    stopping = "stopping"
    """Its keys are revoked and its jobs cancelled; workers still hold some of its work."""
    erasing = "erasing"
    """Nothing of it runs; its bytes, live metrics and rows are deleted."""
    clearing_workers = "clearing_workers"
    """Its rows are gone; workers still look for folders of its attempts on their disks."""
    finished = "finished"

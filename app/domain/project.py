"""Defines the names of projects, and the states of a project's deletion."""

import re
from enum import StrEnum
from typing import Final

FIRST_PROJECT: Final = "default"
"""Names the first project of a new installation."""
PROJECT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class DeletionState(StrEnum):
    stopping = "stopping"
    """Its keys are revoked and its jobs are cancelled. Workers still hold some of its work."""
    erasing = "erasing"
    """None of its work runs. Its bytes, live metrics and rows are being deleted."""
    clearing_workers = "clearing_workers"
    """Its rows are deleted. Workers are removing its attempts' folders from their disks."""
    finished = "finished"

"""Defines uploads by parts: their states and limits."""

from enum import StrEnum
from typing import Final

MAX_PART_BYTES: Final = 64 * 2**20
MAX_PARTS: Final = 10_000


class UploadState(StrEnum):
    """Lists the states: pending → completed | cancelled | expired, all three final. A crash while parts arrive leaves
    the upload pending with the parts that were answered. A crash while they are assembled leaves it completed, and
    assembling starts again."""

    pending = "pending"
    completed = "completed"
    cancelled = "cancelled"
    expired = "expired"

"""Uploads by parts: their states and bounds."""

from enum import StrEnum
from typing import Final

MAX_PART_BYTES: Final = 64 * 2**20
MAX_PARTS: Final = 10_000


class UploadState(StrEnum):
    """pending → completed | cancelled | expired, and nothing after these. A crash while parts come in leaves it pending
    with the parts that were answered; one while they are assembled leaves it completed, and assembling begins again."""

    pending = "pending"
    completed = "completed"
    cancelled = "cancelled"
    expired = "expired"

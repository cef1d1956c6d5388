"""Defines the alignment of a micro-batch's size. Previews use it too, without torch."""

from typing import Final

ALIGNED: Final = 16
"""Divides the number of tokens of every micro-batch."""

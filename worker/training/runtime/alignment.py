"""How many tokens a micro-batch may have. Previews count by it too, without torch."""

from typing import Final

ALIGNED: Final = 16
"""Tokens of a micro-batch come in multiples of this."""

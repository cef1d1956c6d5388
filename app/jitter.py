"""Varies waits, so that many processes that start a wait together do not end it together, above all after an outage."""

import random
from typing import Final

SHARE: Final = 0.2


def jittered(seconds: float) -> float:
    """Return `seconds`, changed by up to a fifth in either direction."""
    return seconds * random.uniform(1 - SHARE, 1 + SHARE)

"""Waits that differ, so that many who began together do not go on together, after an outage above all."""

import random
from typing import Final

SHARE: Final = 0.2


def jittered(seconds: float) -> float:
    """`seconds`, by up to a fifth more or less."""
    return seconds * random.uniform(1 - SHARE, 1 + SHARE)

"""The version of what is installed here."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("tunewright")

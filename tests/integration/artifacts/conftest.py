"""Makes the published adapter of the adapters' tests available here."""

from tests.integration.adapters.conftest import publish

__all__ = ["publish"]

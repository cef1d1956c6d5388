"""The published adapter of the adapters' tests."""

from tests.integration.adapters.conftest import publish

__all__ = ["publish"]

"""Reads Celery's messages from Redis and survives malformed ones."""

from typing import Any

import structlog
from kombu.transport import redis

log = structlog.get_logger()


class WakeupChannel(redis.Channel):  # type: ignore[misc]  # kombu is untyped
    def _brpop_read(self, **options: Any) -> bool | None:
        try:
            taken: bool | None = super()._brpop_read(**options)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # The malformed message is already off the list. Polling covers a lost wake-up.
            log.warning("dropped a malformed message from Redis", error=type(error).__name__)
            return None
        return taken


class Transport(redis.Transport):  # type: ignore[misc]
    Channel = WakeupChannel

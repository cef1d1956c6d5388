"""The part of the client that deals with base models."""

from collections.abc import Iterator
from typing import Any

from tunewright.transport import Transport, once, poll
from tunewright.wire import Model, ModelSummary


class ModelCalls:
    _transport: Transport

    def create_model(self, name: str, *, idempotency_key: str | None = None, **wanted: Any) -> Model:
        """Have a base model fetched: from a folder that the server's workers see (`path`; `hub_name` and `revision` say
        what it is on the hub) or from the hub (`hub`, and `revision`), for `projects=["research"]` or for all. Needs a
        key with the scope `admin`. See `wait_for_model`; one that failed is tried again by creating it again."""
        json = {"name": name} | wanted
        return Model.read(self._transport.ask("POST", "models", json=json, headers=once(idempotency_key)))

    def get_model(self, name: str) -> Model:
        return Model.read(self._transport.ask("GET", "models", name))

    def wait_for_model(self, name: str) -> Model:
        """Until it is `ready` or `failed`."""
        return poll(lambda: self.get_model(name), lambda model: model.state in ("ready", "failed"))

    def models(self) -> Iterator[ModelSummary]:
        """Those that the project may use, newest first."""
        return map(ModelSummary.read, self._transport.pages("models"))

    def delete_model(self, name: str) -> None:
        """Needs a key with the scope `admin`."""
        self._transport.ask("DELETE", "models", name)

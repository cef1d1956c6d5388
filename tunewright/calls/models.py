"""Defines the client's methods for base models."""

from collections.abc import Iterator
from typing import Any

from tunewright.transport import Transport, once, poll
from tunewright.wire import Model, ModelSummary


class ModelCalls:
    _transport: Transport

    def create_model(self, name: str, *, idempotency_key: str | None = None, **wanted: Any) -> Model:
        """Register a base model and have it fetched, from a folder that the server's workers can read (`path`;
        `hub_name` and `revision` name it on the hub) or from the hub (`hub` and `revision`), for
        `projects=["research"]` or for all.

        Needs a key with the scope `admin`. See `wait_for_model`. After a failure, create the model again to retry."""
        json = {"name": name} | wanted
        return Model.read(self._transport.ask("POST", "models", json=json, headers=once(idempotency_key)))

    def get_model(self, name: str) -> Model:
        return Model.read(self._transport.ask("GET", "models", name))

    def wait_for_model(self, name: str) -> Model:
        """Wait until the model is `ready` or `failed`, and return it."""
        return poll(lambda: self.get_model(name), lambda model: model.state in ("ready", "failed"))

    def models(self) -> Iterator[ModelSummary]:
        """List the models that the project may use, newest first."""
        return map(ModelSummary.read, self._transport.pages("models"))

    def delete_model(self, name: str) -> None:
        """Delete a model. Needs a key with the scope `admin`."""
        self._transport.ask("DELETE", "models", name)

"""Defines the client's methods for base models."""

from collections.abc import Iterator
from typing import Any

from tunewright.transport import Transport, idempotency_header, poll
from tunewright.wire import Model, ModelSummary


class ModelCalls:
    _transport: Transport

    def create_model(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> Model:
        """Register a base model and fetch it in the background: see `wait_for_model`.

        With `path`, the model is in a folder that the server's workers can read; `hub_name` and `revision` may name it
        on the hub. With `hub` and `revision`, it is on the hub. `projects=["research"]` restricts its use to projects.

        Needs a key with the scope `admin`. To retry after a failure, create the model again."""
        json = {"name": name} | fields
        return Model.read(
            self._transport.request_json("POST", "models", json=json, headers=idempotency_header(idempotency_key))
        )

    def get_model(self, name: str) -> Model:
        return Model.read(self._transport.request_json("GET", "models", name))

    def wait_for_model(self, name: str) -> Model:
        """Wait until the model is `ready` or `failed`, and return it."""
        return poll(lambda: self.get_model(name), lambda model: model.state in ("ready", "failed"))

    def models(self) -> Iterator[ModelSummary]:
        """List the models that the project may use, newest first."""
        return map(ModelSummary.read, self._transport.iterate_pages("models"))

    def delete_model(self, name: str) -> None:
        """Delete a model. Needs a key with the scope `admin`."""
        self._transport.request_json("DELETE", "models", name)

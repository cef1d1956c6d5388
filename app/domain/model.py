"""Defines the states of a base model in the registry, and why its registration fails."""

from enum import StrEnum
from typing import Final

MAX_ATTEMPTS: Final = 5
"""Limits the workers that may die while fetching one model."""


class ModelState(StrEnum):
    """Lists the states: pending → fetching → ready | failed. A light worker claims a pending model. A crash of that
    worker leaves it fetching, and another claims it when the lease has expired. Posting a failed model again makes it
    pending. Every state can end in removed: a hidden row, which the collector deletes with the bytes that no other
    model names."""

    pending = "pending"
    fetching = "fetching"
    ready = "ready"
    failed = "failed"
    removed = "removed"


class ModelFailure(StrEnum):
    """Lists why a model's registration failed. The codes are a stable part of the API."""

    invalid_model_folder = "invalid_model_folder"
    """The folder, or the repository on the hub, is not a model that can be trained."""
    path_not_allowed = "path_not_allowed"
    """The folder is outside the allowed roots after its links are resolved."""
    source_changed = "source_changed"
    """A file changed while it was read."""
    hub_unreachable = "hub_unreachable"
    """The hub did not answer, or ended the connection repeatedly."""
    hub_offline = "hub_offline"
    """The worker may not connect to the hub, and its local cache lacks the model."""
    hub_model_not_found = "hub_model_not_found"
    """The hub has no such repository, or the worker's token cannot see it."""
    hub_revision_not_found = "hub_revision_not_found"
    """The repository has no such branch, tag or commit."""
    access_denied = "access_denied"
    """The repository is gated, and the worker's token has no access."""
    corrupt_download = "corrupt_download"
    """The downloaded files do not match the hub's digests."""
    disk_full = "disk_full"
    """The worker, or a folder that is the storage, had no disk space left."""
    too_many_attempts = "too_many_attempts"
    """Too many workers died while fetching it."""
    internal_error = "internal_error"
    """An internal error of the server."""

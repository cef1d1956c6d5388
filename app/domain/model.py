"""How a base model arrives in the registry, and why one may not."""

from enum import StrEnum
from typing import Final

MAX_ATTEMPTS: Final = 5
"""Workers that may die over one model before it is given up."""


class ModelState(StrEnum):
    """pending → fetching → ready | failed. A light worker takes a pending one up; a crash of that leaves it fetching,
    and another takes it up when the lease has lapsed. Posting a failed one again makes it pending. All of them end in
    removed, a row that nobody is shown and that the collector deletes with the bytes that no other model names."""

    pending = "pending"
    fetching = "fetching"
    ready = "ready"
    failed = "failed"
    removed = "removed"


class ModelFailure(StrEnum):
    """Why a model did not arrive: stable codes of the API."""

    invalid_model_folder = "invalid_model_folder"
    """The folder, or the repository on the hub, is no model that can be trained."""
    path_not_allowed = "path_not_allowed"
    """The folder lies outside the allowed roots once its links are followed."""
    source_changed = "source_changed"
    """A file was changed while it was read."""
    hub_unreachable = "hub_unreachable"
    """The hub did not answer, or broke off again and again."""
    hub_offline = "hub_offline"
    """The worker may not ask the hub, and its local cache lacks the model."""
    hub_model_not_found = "hub_model_not_found"
    """The hub has no such repository, or hides it from this token."""
    hub_revision_not_found = "hub_revision_not_found"
    """The repository has no such branch, tag or commit."""
    access_denied = "access_denied"
    """The repository is gated, and the worker's token was not let in."""
    corrupt_download = "corrupt_download"
    """What arrived is not what the hub promised."""
    disk_full = "disk_full"
    """There was no disk space left on the worker, or in a folder that is the storage."""
    too_many_attempts = "too_many_attempts"
    """Worker after worker died over it."""
    internal_error = "internal_error"
    """A fault of the server's."""

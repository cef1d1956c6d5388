"""Defines the errors of requests about base models that `app.errors` lacks."""

from app.errors import BadRequest


class InvalidHubName(BadRequest):
    """The hub name or the commit given for a folder's model is not valid."""

    code = "invalid_hub_name"

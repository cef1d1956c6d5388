"""What can be wrong with a request about base models, beyond what `app.errors` has."""

from app.errors import BadRequest


class InvalidHubName(BadRequest):
    """What a folder's model is said to be on the hub is no name there, or no commit."""

    code = "invalid_hub_name"

"""Kills the server and the command line at failpoints while they create or revoke API keys."""

import secrets

from app.keys.service import id_of
from tests.chaos.harness import Harness


def keys(harness: Harness) -> dict[str, str]:
    """Return each key's state."""
    return {key.id: key.state for key in harness.client.list_keys()}


def post_key(harness: Harness, step: str) -> None:
    """Kill the server during requests. A committed change holds, and a repeated request gets its response."""
    once = secrets.token_hex(4)
    was = keys(harness)
    harness.kill_during("before_post_key", lambda: harness.client.create_key("chaos", idempotency_key=once))
    assert keys(harness) == was
    harness.kill_during("after_post_key", lambda: harness.client.create_key("chaos", idempotency_key=once))
    [id] = keys(harness).keys() - was.keys()
    made = harness.client.create_key("chaos", idempotency_key=once)
    assert (made.id, id_of(made.raw["secret"])) == (id, id)
    harness.kill_during("before_replace_key", lambda: harness.client.rotate_key(id))
    assert harness.client.get_key(id).replaced_by is None
    harness.kill_during("after_replace_key", lambda: harness.client.rotate_key(id))
    assert harness.client.get_key(id).replaced_by in keys(harness)
    harness.kill_during("before_withdraw_key", lambda: harness.client.revoke_key(id))
    assert keys(harness)[id] == "active"
    harness.kill_during("after_withdraw_key", lambda: harness.client.revoke_key(id))
    assert keys(harness)[id] == "revoked"


def revoke_key(harness: Harness, step: str) -> None:
    """Kill the command line on the server's machine."""
    id = harness.client.create_key("chaos").id
    rotate, revoke = ("-m", "app.keys", "rotate", id), ("-m", "app.keys", "revoke", id)
    assert harness.run(*rotate, failpoint="before_rotate_key") == -9
    assert harness.client.get_key(id).replaced_by is None
    assert harness.run(*rotate, failpoint="after_rotate_key") == -9
    assert harness.client.get_key(id).replaced_by in keys(harness)
    assert harness.run(*revoke, failpoint="before_revoke_key") == -9
    assert keys(harness)[id] == "active"
    assert harness.run(*revoke, failpoint="after_revoke_key") == -9
    assert keys(harness)[id] == "revoked"

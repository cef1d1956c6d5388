"""What becomes of API keys when the server, or the command, is killed that makes or takes them back."""

import secrets

from app.keys.service import id_of
from tests.chaos.stage import Stage


def keys(stage: Stage) -> dict[str, str]:
    """The state of each."""
    return {key.id: key.state for key in stage.client.list_keys()}


def post_key(stage: Stage, step: str) -> None:
    """Over HTTP, by a server that dies: what it answers holds once it is committed, and sent again it is answered."""
    once = secrets.token_hex(4)
    was = keys(stage)
    stage.unanswered("before_post_key", lambda: stage.client.create_key("chaos", idempotency_key=once))
    assert keys(stage) == was
    stage.unanswered("after_post_key", lambda: stage.client.create_key("chaos", idempotency_key=once))
    [id] = keys(stage).keys() - was.keys()
    made = stage.client.create_key("chaos", idempotency_key=once)
    assert (made.id, id_of(made.raw["secret"])) == (id, id)
    stage.unanswered("before_replace_key", lambda: stage.client.rotate_key(id))
    assert stage.client.get_key(id).replaced_by is None
    stage.unanswered("after_replace_key", lambda: stage.client.rotate_key(id))
    assert stage.client.get_key(id).replaced_by in keys(stage)
    stage.unanswered("before_withdraw_key", lambda: stage.client.revoke_key(id))
    assert keys(stage)[id] == "active"
    stage.unanswered("after_withdraw_key", lambda: stage.client.revoke_key(id))
    assert keys(stage)[id] == "revoked"


def revoke_key(stage: Stage, step: str) -> None:
    """By the command on the server's machine."""
    id = stage.client.create_key("chaos").id
    rotate, revoke = ("-m", "app.keys", "rotate", id), ("-m", "app.keys", "revoke", id)
    assert stage.run(*rotate, failpoint="before_rotate_key") == -9
    assert stage.client.get_key(id).replaced_by is None
    assert stage.run(*rotate, failpoint="after_rotate_key") == -9
    assert stage.client.get_key(id).replaced_by in keys(stage)
    assert stage.run(*revoke, failpoint="before_revoke_key") == -9
    assert keys(stage)[id] == "active"
    assert stage.run(*revoke, failpoint="after_revoke_key") == -9
    assert keys(stage)[id] == "revoked"

"""Kills the server at failpoints while a browser signs in or out."""

import httpx2
from sqlalchemy import func, select

from app.db.session import transaction
from app.db.tables import BrowserSession
from tests.chaos.harness import Harness
from tunewright.errors import ConnectionFailed


def count_sessions(harness: Harness) -> int:
    with transaction(harness.sessions) as session:
        return session.scalars(select(func.count()).select_from(BrowserSession)).one()


def send(harness: Harness, method: str, cookie: str = "") -> httpx2.Response:
    """Send a request as the server's page does. The client has no calls for sessions."""
    body = {"key": harness.stack.api_key} if method == "POST" else None
    headers = {"Origin": harness.stack.url} | ({"Cookie": cookie} if cookie else {})
    try:
        with httpx2.Client(trust_env=False, timeout=60) as http:
            return http.request(method, f"{harness.stack.url}/session", json=body, headers=headers)
    except httpx2.TransportError as error:
        raise ConnectionFailed(str(error)) from error


def post_session(harness: Harness, step: str) -> None:
    """Kill the server during requests. A committed change holds; a session whose cookie was lost expires."""
    was = count_sessions(harness)
    harness.kill_during("before_post_session", lambda: send(harness, "POST"))
    assert count_sessions(harness) == was
    harness.kill_during("after_post_session", lambda: send(harness, "POST"))
    assert count_sessions(harness) == was + 1
    cookie = send(harness, "POST").headers["Set-Cookie"].partition(";")[0]
    harness.kill_during("before_delete_session", lambda: send(harness, "DELETE", cookie))
    assert send(harness, "GET", cookie).status_code == 200
    harness.kill_during("after_delete_session", lambda: send(harness, "DELETE", cookie))
    assert send(harness, "GET", cookie).status_code == 401
    assert send(harness, "DELETE", cookie).status_code == 204
    assert count_sessions(harness) == was + 1

"""Secrets that an exception carries reach neither a log nor an answer."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import sqlalchemy
from sqlalchemy import Engine, text

from app.db.session import Sessions, transaction
from app.keys.service import KeyService
from app.secrets.redaction import redact_error
from app.settings import Settings
from app.storage import Storage
from worker.attempt.watchdog import failure_from_exception

ROOT = Path(__file__).parents[2]
MARKER = "c4n4ryS3cr3tValue0123456789"
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused: %', NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.fixture
def refuse_rows(engine: Engine) -> Callable[[str], None]:
    """Make the database refuse every new row of a table, with an error that contains the row."""

    def refuse(table: str) -> None:
        with engine.begin() as connection:
            connection.execute(text(REFUSE.format(table)))

    return refuse


@pytest.fixture
def log(settings: Settings, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Start the API in another process; return its URL and its log file."""
    environment = os.environ | {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    environment |= {"TUNEWRIGHT_DATA_DIR": str(tmp_path)}
    log = tmp_path / "api.log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        command = [sys.executable, "-m", "app.local.api", str(listener.fileno()), str(log)]
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, pass_fds=[listener.fileno()], stdout=output, stderr=output
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", log
        finally:
            process.terminate()
            process.wait()


def test_an_error_while_storing_a_webhook_shows_no_secret(
    log: tuple[str, Path], make_key: Callable[..., str], refuse_rows: Callable[[str], None]
) -> None:
    """The exception's text contains the row with its new secret, and uvicorn logs the exception too."""
    url, file = log
    key = make_key("default", "read", "write")
    refuse_rows("webhooks")
    body = {"url": f"https://93.184.215.14/services/{MARKER}?token={MARKER}"}
    answer = httpx2.post(f"{url}/webhooks", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30)
    assert answer.status_code == 500, answer.text
    deadline = time.monotonic() + 20
    while "Exception in ASGI application" not in (written := file.read_text()):
        assert time.monotonic() < deadline, written
        time.sleep(0.05)
    assert written.count("refused: (") >= 2, "expected the exception in our log line and in uvicorn's"
    for shown in (answer.text, written):
        assert MARKER not in shown
        assert not re.search(r"whsec_\w", shown)
        assert key not in shown
    records = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert any("RaiseException" in line.get("exception", "") for line in records)


def test_an_error_while_signing_in_shows_no_secret(
    log: tuple[str, Path], make_key: Callable[..., str], refuse_rows: Callable[[str], None]
) -> None:
    """The exception's text contains the row of the session, which has the digest of the token alone."""
    url, file = log
    key = make_key()
    refuse_rows("sessions")
    answer = httpx2.post(f"{url}/session", json={"key": key}, headers={"Origin": url}, timeout=30)
    assert (answer.status_code, "set-cookie" in answer.headers) == (500, False)
    deadline = time.monotonic() + 20
    while "Exception in ASGI application" not in (written := file.read_text()):
        assert time.monotonic() < deadline, written
        time.sleep(0.05)
    assert "refused: (session-" in written
    for shown in (answer.text, written):
        assert not re.search(r"tws?_\w", shown)


def test_an_error_while_storing_a_key_shows_no_secret(
    sessions: Sessions, project_id: str, refuse_rows: Callable[[str], None]
) -> None:
    refuse_rows("api_keys")

    def create() -> None:
        with transaction(sessions) as session:
            KeyService(session).create(project_id, MARKER, ("read",))

    with pytest.raises(sqlalchemy.exc.ProgrammingError) as caught:
        create()
    assert "[SQL parameters hidden" in str(caught.value)
    shown = failure_from_exception(caught.value).message
    assert "ProgrammingError" in shown
    assert not re.search(r"tw_\w", shown)


def test_library_errors_about_a_url_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors come from an object store, from HTTP and from a database that cannot be reached."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", MARKER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", MARKER)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:1/{MARKER}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")

    def fail(call: Callable[[], object]) -> Exception:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
            call()
        return caught.value

    url = f"http://user:{MARKER}@127.0.0.1:1/a?token={MARKER}"
    database = sqlalchemy.create_engine(f"postgresql+psycopg://user:{MARKER}@127.0.0.1:1/db?password={MARKER}")
    status = httpx2.Response(500, request=httpx2.Request("GET", url))
    errors = [
        fail(lambda: Storage(f"s3://bucket/{MARKER}").open("key").read()),
        fail(status.raise_for_status),
        fail(database.connect),
    ]
    assert any(MARKER in str(error) for error in errors), "no error contains the marker"
    for error in errors:
        for shown in (redact_error(error), failure_from_exception(error).message):
            assert type(error).__name__ in shown
            assert MARKER not in shown

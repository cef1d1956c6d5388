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
CANARY = "c4n4ryS3cr3tValue0123456789"
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused: %', NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.fixture
def refusing(engine: Engine) -> Callable[[str], None]:
    """From now on, the database refuses every new row of a table, and its error contains the row."""

    def refuse(table: str) -> None:
        with engine.begin() as connection:
            connection.execute(text(REFUSE.format(table)))

    return refuse


@pytest.fixture
def log(settings: Settings, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of an API in a process of its own, and what it writes."""
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


def test_a_webhook_that_cannot_be_stored(
    log: tuple[str, Path], make_key: Callable[..., str], refusing: Callable[[str], None]
) -> None:
    """The exception's text has the row, with the secret that was made for it; uvicorn writes the exception, too."""
    url, file = log
    key = make_key("default", "read", "write")
    refusing("webhooks")
    body = {"url": f"https://93.184.215.14/services/{CANARY}?token={CANARY}"}
    answer = httpx2.post(f"{url}/webhooks", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30)
    assert answer.status_code == 500, answer.text
    ends = time.monotonic() + 20
    while "Exception in ASGI application" not in (written := file.read_text()):
        assert time.monotonic() < ends, written
        time.sleep(0.05)
    assert written.count("refused: (") >= 2, "ours and uvicorn's"
    for shown in (answer.text, written):
        assert CANARY not in shown
        assert not re.search(r"whsec_\w", shown)
        assert key not in shown
    ours = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert any("RaiseException" in line.get("exception", "") for line in ours)


def test_a_key_that_cannot_be_stored(sessions: Sessions, project_id: str, refusing: Callable[[str], None]) -> None:
    refusing("api_keys")

    def create() -> None:
        with transaction(sessions) as session:
            KeyService(session).create(project_id, CANARY, ("read",))

    with pytest.raises(sqlalchemy.exc.ProgrammingError) as caught:
        create()
    assert "[SQL parameters hidden" in str(caught.value)
    shown = failure_from_exception(caught.value).message
    assert "ProgrammingError" in shown
    assert not re.search(r"tw_\w", shown)


def test_what_libraries_say_of_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of object stores, of HTTP, and of a database that is not there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", CANARY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:1/{CANARY}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")

    def fail(what: Callable[[], object]) -> Exception:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
            what()
        return caught.value

    url = f"http://user:{CANARY}@127.0.0.1:1/a?token={CANARY}"
    database = sqlalchemy.create_engine(f"postgresql+psycopg://user:{CANARY}@127.0.0.1:1/db?password={CANARY}")
    status = httpx2.Response(500, request=httpx2.Request("GET", url))
    errors = [
        fail(lambda: Storage(f"s3://bucket/{CANARY}").open("key").read()),
        fail(status.raise_for_status),
        fail(database.connect),
    ]
    assert any(CANARY in str(error) for error in errors), "nothing to be removed"
    for error in errors:
        for shown in (redact_error(error), failure_from_exception(error).message):
            assert type(error).__name__ in shown
            assert CANARY not in shown

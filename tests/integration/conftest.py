"""An administrator at a machine that has no shell on the server's."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from app.domain.caller import ADMIN
from tunewright.command_line import app


@pytest.fixture
def admin_key(make_key: Callable[..., str], project_id: str) -> str:
    return make_key("default", *ADMIN)


@pytest.fixture
def run(live_server: str, admin_key: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`tunewright …` with an administrator's key; what it says."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("TUNEWRIGHT_URL", live_server)
    monkeypatch.setenv("TUNEWRIGHT_API_KEY", admin_key)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run

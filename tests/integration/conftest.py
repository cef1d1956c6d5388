"""Fixtures for an administrator who works from a machine other than the server's."""

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
    """Run `tunewright …` with an administrator's key; return its output."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("TUNEWRIGHT_URL", live_server)
    monkeypatch.setenv("TUNEWRIGHT_API_KEY", admin_key)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run

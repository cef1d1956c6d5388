"""Provides an administrator on another machine than the server's, and a second process of the API."""

from collections.abc import Callable, Iterator

import httpx2
import pytest
from typer.testing import CliRunner

from app.domain.caller import ADMIN
from app.settings import Settings
from app.web import key_cache
from tests.fixtures.api_process import serving_api
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


@pytest.fixture
def other_process(settings: Settings) -> Iterator[httpx2.Client]:
    """Serve the API in another process; yield a client without a key."""
    with serving_api(settings) as api, httpx2.Client(base_url=api.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def no_key_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up the key of every request in the database."""
    monkeypatch.setattr(key_cache, "KEEP_SECONDS", 0)

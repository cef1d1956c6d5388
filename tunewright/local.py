"""Reads the URL and the API key that `tunewright up` writes to its data folder on this machine."""

import json
import os
from pathlib import Path

from tunewright.errors import TunewrightError


def data_dir() -> Path:
    """Return the data folder, by the same rules as the server."""
    if configured := os.environ.get("TUNEWRIGHT_DATA_DIR"):
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/var/lib/tunewright")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tunewright"


def find_url() -> str:
    if configured := os.environ.get("TUNEWRIGHT_URL"):
        return configured
    try:
        return str(read_server_file(data_dir())["url"])
    except FileNotFoundError as error:
        detail = f"No server is running on {data_dir()}. Start one with `tunewright up`, or set TUNEWRIGHT_URL."
        raise TunewrightError(None, "no_server", detail) from error


def find_key() -> str:
    if configured := os.environ.get("TUNEWRIGHT_API_KEY"):
        return configured
    path = data_dir() / "api_key"
    try:
        return path.read_text().strip()
    except OSError as error:
        detail = f"Cannot read the API key from {path} ({error.strerror}). Set TUNEWRIGHT_API_KEY."
        raise TunewrightError(None, "no_api_key", detail) from error


def uses_database(folder: Path | None) -> bool:
    """Return whether an operator's command uses the server's database instead of its API."""
    return folder is not None or "DATABASE_URL" in os.environ or "TUNEWRIGHT_URL" not in os.environ


def server_environment(folder: Path | None = None) -> dict[str, str]:
    """Return the environment variables that a program needs to reach the server's database and storage.

    Returns none if the environment already has DATABASE_URL. A given data folder takes precedence over the
    environment."""
    if folder is None and "DATABASE_URL" in os.environ:
        return {}
    folder = folder or data_dir()
    try:
        server = read_server_file(folder)
    except FileNotFoundError as error:
        detail = f"No server is running on {folder}. Start one with `tunewright up`, or set DATABASE_URL."
        raise TunewrightError(None, "no_server", detail) from error
    return {
        "DATABASE_URL": server["database_url"],
        "REDIS_URL": server["redis_url"],
        "STORAGE_URL": server["storage_url"],
        "TUNEWRIGHT_DATA_DIR": str(folder.absolute()),
    }


def read_server_file(folder: Path) -> dict[str, str]:
    path = folder / "server.json"
    try:
        server: dict[str, str] = json.loads(path.read_text())
    except PermissionError as error:
        detail = f"Cannot read {path}: it belongs to another user. Set TUNEWRIGHT_URL and TUNEWRIGHT_API_KEY."
        raise TunewrightError(None, "no_server", detail) from error
    return server

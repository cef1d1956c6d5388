"""Where a server of this machine says who it is: the data folder of `tunewright up`."""

import json
import os
from pathlib import Path

from tunewright.errors import TunewrightError


def data_dir() -> Path:
    """As the server finds it."""
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
        said = f"No server runs on {data_dir()}. Start one with `tunewright up`, or set TUNEWRIGHT_URL."
        raise TunewrightError(None, "no_server", said) from error


def find_key() -> str:
    if configured := os.environ.get("TUNEWRIGHT_API_KEY"):
        return configured
    path = data_dir() / "api_key"
    try:
        return path.read_text().strip()
    except OSError as error:
        said = f"Cannot read the API key {path} ({error.strerror}). Set TUNEWRIGHT_API_KEY."
        raise TunewrightError(None, "no_api_key", said) from error


def acts_on_database(folder: Path | None) -> bool:
    """Whether a command of the operator acts on the server's own database, and not through its API."""
    return folder is not None or "DATABASE_URL" in os.environ or "TUNEWRIGHT_URL" not in os.environ


def server_environment(folder: Path | None = None) -> dict[str, str]:
    """What a program needs to reach the database and the storage that the server uses: nothing new where the
    environment names the database. A data folder that is given goes before the environment."""
    if folder is None and "DATABASE_URL" in os.environ:
        return {}
    folder = folder or data_dir()
    try:
        server = read_server_file(folder)
    except FileNotFoundError as error:
        said = f"No server runs on {folder}. Start one with `tunewright up`, or set DATABASE_URL."
        raise TunewrightError(None, "no_server", said) from error
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
        said = f"{path} belongs to another user. Set TUNEWRIGHT_URL and TUNEWRIGHT_API_KEY."
        raise TunewrightError(None, "no_server", said) from error
    return server

"""Models of a hub, pinned to a commit, in the cache folder."""

import re
from pathlib import Path

from app.errors import BadModelFolder

HUB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def locate(source: str, revision: str | None, cache_dir: Path) -> Path:
    """The folder of a catalogued model; downloaded when its source is a hub's and the cache lacks it."""
    return Path(source) if Path(source).is_absolute() else fetch(source, revision or "", cache_dir)


def fetch(hub_id: str, revision: str, cache_dir: Path) -> Path:
    """The model's files of one commit. Once they are in the cache, no network is needed."""
    if not HUB_ID.fullmatch(hub_id):
        raise BadModelFolder(f"{hub_id!r:.80} is no hub id; write ORG/NAME.")
    if not COMMIT.fullmatch(revision):
        raise BadModelFolder(
            "Pin the model: give --revision with the 40 hex digits of a commit, not a branch or a tag."
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise BadModelFolder(
            "Hub models need the package huggingface_hub: pip install 'tunewright[worker]'."
        ) from error
    try:
        return Path(snapshot_download(hub_id, revision=revision, cache_dir=cache_dir / "hub", allow_patterns=WANTED))
    except Exception as error:
        # The hub's client raises its own errors, its HTTP library's, and OSError alike.
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadModelFolder(f"{hub_id} at {revision[:12]} cannot be fetched: {why}") from error

"""Models of a hub, pinned to a commit, in the cache folder."""

import logging
import re
from pathlib import Path

from app.errors import BadModelFolder

HUB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
TOKENIZER = ["*.json", "*.model", "*.txt", "*.jinja"]
WANTED = [*TOKENIZER, "*.safetensors"]


def locate(source: str, revision: str | None, cache_dir: Path, *, weights: bool = True) -> Path:
    """The folder of a registered model; downloaded when its source is a hub's and the cache lacks it, without its
    weights if they are not wanted."""
    return Path(source) if Path(source).is_absolute() else fetch(source, revision or "", cache_dir, weights=weights)


def fetch(hub_id: str, revision: str, cache_dir: Path, *, weights: bool = True) -> Path:
    """The folder with the model's files of one commit. Once they are in the cache, no network is needed."""
    if not HUB_ID.fullmatch(hub_id):
        raise BadModelFolder(f"{hub_id!r:.80} is no hub id; write ORG/NAME.")
    if not COMMIT.fullmatch(revision):
        raise BadModelFolder(
            "Pin the model: give --revision with the 40 hex digits of a commit, not a branch or a tag."
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise BadModelFolder(
            "Hub models need the package huggingface_hub: pip install 'tunewright[worker]'."
        ) from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    # The hub's client alone cannot tell a whole copy from one that was cut off, without asking the hub.
    complete = cache_dir / "hub" / f"{hub_id.replace('/', '--')}-{revision}.complete"
    try:
        folder = huggingface_hub.snapshot_download(
            hub_id,
            revision=revision,
            cache_dir=cache_dir / "hub",
            allow_patterns=WANTED if weights else TOKENIZER,
            local_files_only=complete.exists(),
        )
    except Exception as error:
        # It raises errors of its own, of its HTTP library and of the operating system alike.
        why = " ".join(str(error).split()) or type(error).__name__
        raise BadModelFolder(f"{hub_id} at {revision[:12]} cannot be fetched: {why:.300}") from error
    if weights:
        complete.touch()
    return Path(folder)

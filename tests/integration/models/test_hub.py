"""Models are fetched from a hub, here from one that has the API of the real one."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from sqlalchemy import text

from app.db.session import Sessions, transaction
from app.db.tables import RegisteredModel
from app.models import hub as hub_module
from app.models.fetching import fetch_next
from app.models.service import ModelService, wanted_model
from app.models.sources import HUB_ID
from app.settings import Settings
from app.storage import Storage
from tests.fixtures.hub import COMMIT, OLDER, TOKEN, Hub
from tests.fixtures.models import fetch_place

Run = Callable[..., subprocess.CompletedProcess[str]]
Add = Callable[..., RegisteredModel]


@pytest.fixture
def used_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Make this process use the test's hub, without a token."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nowhere/token")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    huggingface_hub.close_session()
    yield hub
    huggingface_hub.close_session()


@pytest.fixture
def add(used_hub: Hub, sessions: Sessions, settings: Settings) -> Add:
    """Fetch `org/name`; return its row."""

    def add(name: str = "tiny", revision: str | None = None, id: str = "org/name") -> RegisteredModel:
        with transaction(sessions) as session:
            ModelService(session).add(wanted_model(name, None, id, revision, ()))
        storage = Storage(settings.storage)
        assert fetch_next(fetch_place(sessions, storage, settings.work_dir), threading.Event())
        with transaction(sessions) as session:
            return ModelService(session).get(None, name)

    return add


def test_a_branch_is_pinned_to_its_commit(add: Add, used_hub: Hub, settings: Settings) -> None:
    """All files are then requested at that commit."""
    used_hub.files["LICENSE"] = b"Mind the terms."
    model = add(revision="main")
    assert (model.state, model.revision, model.wanted_revision) == ("ready", COMMIT, "main")
    assert (model.num_parameters, model.license) == (432, "gemma")
    assert not used_hub.asked("/resolve/main/")
    assert used_hub.asked(f"/resolve/{COMMIT}/config.json")
    assert add("older", "v1").revision == OLDER
    assert not list((settings.work_dir / "models").iterdir())


@pytest.mark.parametrize(
    "id",
    [
        *("org/name", "0rg_1/n.a-m_e", "a/b", "no-org", "a/b/c", "-a/b", "a/b.", "a/.b", "a--b/c", "a/b..c", "a/b.git"),
        *("/b", "a/é", "a/b\n", "a/" + "b" * 96, "a/" + "b" * 97, ""),
    ],
)
def test_a_hub_name_is_valid_where_the_hub_client_accepts_it(id: str) -> None:
    try:
        validate_repo_id(id)
        is_valid = "/" in id  # the server refuses names without an organization
    except HFValidationError:
        is_valid = False
    assert bool(HUB_ID.fullmatch(id)) == is_valid


def test_stored_files_are_not_fetched_again(add: Add, used_hub: Hub) -> None:
    used_hub.files["consolidated.safetensors"] = b"another format's weights"
    used_hub.files["onnx/config.json"] = b"{}"
    first = add()
    assert len(used_hub.asked("/lfs/model.safetensors")) == 1
    assert not used_hub.asked("consolidated") + used_hub.asked("onnx")
    second = add("again", COMMIT)
    assert len(used_hub.asked("/lfs/")) == 2, "the weights and the tokenizer, once each"
    assert first.files == second.files


def test_a_broken_download_resumes_where_it_stopped(add: Add, used_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "WAIT_SECONDS", 0.01)
    used_hub.breaks_after = 700
    model = add()
    assert model.state == "ready", model.failure_message
    ranges = [headers.get("range") for headers in used_hub.asked("/lfs/")]
    assert ranges.count("bytes=700-") == 1


def test_a_damaged_download_fails(add: Add, used_hub: Hub) -> None:
    weights = used_hub.files["model.safetensors"]

    class Damaged(dict[str, bytes]):
        """Gives the download other bytes than the listing describes."""

        def __getitem__(self, name: str) -> bytes:
            return weights[:-1] + b"x" if name == "model.safetensors" else super().__getitem__(name)

    used_hub.files = Damaged(used_hub.files)
    model = add()
    assert (model.state, model.failure_code) == ("failed", "corrupt_download")


@pytest.mark.parametrize(
    ("id", "revision", "code", "message"),
    [
        ("org/other", None, "hub_model_not_found", "The hub has no model org/other, or this machine's HF_TOKEN"),
        ("org/name", "nope", "hub_revision_not_found", "org/name has no branch, tag or commit 'nope'"),
    ],
)
def test_a_model_or_revision_missing_from_the_hub_is_reported(
    add: Add, id: str, revision: str | None, code: str, message: str
) -> None:
    model = add(id=id, revision=revision)
    assert (model.state, model.failure_code) == ("failed", code)
    assert message in (model.failure_message or "")


def test_a_gated_model_needs_a_token_that_is_sent_only_to_the_hub(
    used_hub: Hub, run_models: Run, hub: Hub, sessions: Sessions, api: Any
) -> None:
    """HF_ENDPOINT, HF_TOKEN and the proxy are set as an operator sets them. Large files are on another host."""
    hub.is_gated = True
    proxied = {"HF_ENDPOINT": "http://hub.example", "HTTP_PROXY": hub.url, "NO_PROXY": "", "HF_HOME": "/nowhere"}
    add = ("add", "tiny", "--hub", "org/name")
    refused = run_models(*add, **proxied)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert refused.stderr.startswith("org/name is a gated model. Accept its terms on the hub, then set HF_TOKEN")
    assert api.get("/models/tiny").json()["failure"]["code"] == "access_denied"
    added = run_models(*add, **proxied, HF_TOKEN=TOKEN)
    assert (added.returncode, added.stderr) == (0, ""), added.stderr
    assert f"revision {COMMIT[:12]}, org/name" in added.stdout
    assert any("authorization" in headers for headers in hub.asked("http://hub.example/org/name/resolve/"))
    assert hub.asked("/lfs/")
    assert not any("authorization" in headers for headers in hub.asked("/lfs/"))
    with transaction(sessions) as session:
        rows = session.execute(text("SELECT row_to_json(base_models)::text FROM base_models")).scalars().all()
    assert TOKEN not in "".join([*rows, added.stdout])
    again = run_models(*add, HF_ENDPOINT="http://127.0.0.1:9")
    assert again.returncode == 0, "the model is stored already, so the hub is not asked"


def test_offline_mode_uses_the_local_hub_cache(used_hub: Hub, run_models: Run, tmp_path: Path, api: Any) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    add = ("add", "tiny", "--hub", "org/name")
    refused = run_models(*add, **offline)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert refused.stderr.startswith("HF_HUB_OFFLINE is set, and this machine's hub cache has no org/name at main")
    huggingface_hub.snapshot_download("org/name", cache_dir=tmp_path / "home" / "hub")
    added = run_models(*add, **offline)
    assert added.returncode == 0, added.stderr
    assert api.get("/models/tiny").json()["revision"] == COMMIT


def test_an_unreachable_hub_is_reported_in_one_line_within_five_seconds(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first port refuses connections; the second accepts them and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port, message in (
            (9, "cannot be reached (ConnectError)"),
            (silent.getsockname()[1], "did not respond in time"),
        ):
            monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
            began = time.monotonic()
            model = add()
            assert time.monotonic() - began < 5
            assert (model.state, model.failure_code) == ("failed", "hub_unreachable")
            assert message in (model.failure_message or "")
            assert "\n" not in (model.failure_message or "")

"""An administrator manages models through the client and the command line, from another machine."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.db.session import Sessions
from app.models.fetching import fetch_next
from app.settings import Settings
from app.storage import Storage
from tests.fixtures.hub import COMMIT
from tests.fixtures.models import fetch_place
from tunewright import Client, TunewrightError


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"model_roots": str(tmp_path)})


@pytest.fixture
def light_worker(live_server: str, sessions: Sessions, settings: Settings, tmp_path: Path) -> Iterator[None]:
    place, ended = fetch_place(sessions, Storage(settings.storage), settings.work_dir, tmp_path), threading.Event()

    def work() -> None:
        while not ended.wait(0.05):
            fetch_next(place, ended)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("light_worker")
def test_the_client_manages_models(
    live_server: str, admin_key: str, make_key: Callable[..., str], model_folder: Path
) -> None:
    with Client(live_server, admin_key) as client:
        stated = {"hub_name": "org/name", "revision": COMMIT}
        posted = client.create_model("house/tiny", path=str(model_folder), projects=["default"], **stated)
        assert posted.state in ("pending", "fetching", "ready")
        model = client.wait_for_model("house/tiny")
        assert (model.state, model.max_seq_len, model.projects) == ("ready", 128, ["default"])
        assert (model.hub_name, model.hub_revision) == ("org/name", COMMIT)
        assert [each.name for each in client.models()] == ["house/tiny"]
        client.delete_model("house/tiny")
        assert list(client.models()) == []
    with Client(live_server, make_key()) as client, pytest.raises(TunewrightError, match="--scope admin"):
        client.create_model("tiny", path=str(model_folder))


@pytest.mark.usefixtures("light_worker")
def test_the_command_line_manages_models(run: Callable[..., str], model_folder: Path) -> None:
    (model_folder / "LICENSE").write_text("Do as you please.")
    stated = ("--hub-name", "org/name", "--revision", COMMIT)
    added = run("models", "add", "tiny", "--path", str(model_folder), "--projects", "default", *stated)
    assert "tiny is ready: 432 parameters" in added
    assert "LlamaForCausalLM" in run("models", "list")
    shown = run("models", "show", "tiny")
    assert "Do as you please." in shown
    assert "not stated by the model" in shown
    assert f"org/name at {COMMIT}" in shown
    run("models", "remove", "tiny")
    assert "(none)" in run("models", "list")
    with pytest.raises(TunewrightError, match="No such folder"):
        run("models", "add", "gone", "--path", str(model_folder / "gone"))
    assert "failed: No such" in run("models", "list"), "the text after a long path is wrapped"

"""A worker keeps copies of base models, which it fetches by digest from the shared storage."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.db.session import Sessions
from app.db.tables import RegisteredModel
from app.errors import InvalidModelFolder
from app.settings import Settings
from app.storage import Storage
from tests.fixtures.models import register_model
from tests.integration.models.conftest import SHAPES, safetensors
from worker.host import model_cache
from worker.host.model_cache import FetchStopped, ModelCache

Add = Callable[[str], RegisteredModel]


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings.storage)


@pytest.fixture
def add(sessions: Sessions, storage: Storage, model_folder: Path) -> Add:
    """Register a model with a tokenizer that no other model has, then delete its folder."""

    def add(name: str) -> RegisteredModel:
        folder = shutil.copytree(model_folder, model_folder.with_name(name))
        (folder / "tokenizer.json").write_text(f'{{"of": "{name}"}}')
        model = register_model(sessions, storage, name, folder)
        shutil.rmtree(folder)
        return model

    return add


class SeparateDisk(Storage):
    """Storage as seen from another machine: a file in the cache cannot be a link to a stored object."""

    def links(self, folder: Path) -> bool:
        return False


@pytest.fixture
def cache(settings: Settings) -> ModelCache:
    return ModelCache(settings, SeparateDisk(settings.storage))


def cached(settings: Settings) -> list[Path]:
    return [path for path in (settings.cache_dir / "models").iterdir() if path.is_dir() and path.suffix == ""]


def test_a_machine_without_the_folder_fetches_the_model_by_digest(
    cache: ModelCache, add: Add, settings: Settings, model_folder: Path
) -> None:
    model, reported = add("one"), []
    with cache.hold(model, progress=lambda done, total: reported.append((done, total))) as folder:
        assert folder.is_relative_to(settings.cache_dir)
        assert sorted(path.name for path in folder.iterdir()) == sorted(file["path"] for file in model.files)
        assert (folder / "model.safetensors").read_bytes() == (model_folder / "model.safetensors").read_bytes()
    total = sum(file["size"] for file in model.files)
    assert (reported[-1], len(reported)) == ((total, total), len(model.files))
    with cache.hold(model, progress=lambda *_: pytest.fail("the model is fetched again")) as again:
        assert again == folder


def test_a_preview_fetches_no_weights(cache: ModelCache, add: Add) -> None:
    model = add("one")
    with cache.hold(model, weights=False) as folder:
        assert not (folder / "model.safetensors").exists()
        assert (folder / "tokenizer.json").exists()
    with cache.hold(model) as folder:
        assert (folder / "model.safetensors").exists()


def test_a_cache_on_the_disk_of_the_storage_takes_no_space(add: Add, settings: Settings, storage: Storage) -> None:
    model = add("one")
    with ModelCache(settings, storage).hold(model) as folder:
        for file in model.files:
            assert (folder / file["path"]).samefile(settings.data_dir / "storage" / file["key"])


def test_an_altered_or_truncated_file_is_fetched_again(cache: ModelCache, add: Add, model_folder: Path) -> None:
    model = add("one")
    with cache.hold(model) as folder:
        weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damage in (whole[:-1], whole[:-1] + b"x"):
        weights.write_bytes(damage)
        with cache.hold(model):
            assert weights.read_bytes() == whole


def test_a_file_missing_or_damaged_in_storage_is_an_error(
    cache: ModelCache, add: Add, settings: Settings, storage: Storage
) -> None:
    model = add("one")
    stored = settings.data_dir / "storage" / model.files[-1]["key"]
    stored.write_bytes(b"altered")
    for _ in range(2):
        with (
            pytest.raises(InvalidModelFolder, match=r"File .* of model one is missing or damaged in storage"),
            cache.hold(model),
        ):
            pass
        stored.unlink(missing_ok=True)


def test_the_least_recently_used_model_that_is_not_in_use_is_removed_first(
    settings: Settings, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {name: add(name) for name in ("one", "two", "three")}
    size = sum(file["size"] for file in models["one"].files)
    limit = settings.model_copy(update={"model_cache_gb": (2.5 * size) / 1e9})
    cache = ModelCache(limit, SeparateDisk(settings.storage))
    with cache.hold(models["one"]) as one, cache.hold(models["two"]) as two:
        pass
    os.utime(one.with_name(f"{one.name}.lock"), (time.time() - 60,) * 2)
    with ExitStack() as using:
        using.enter_context(cache.hold(models["one"]))
        os.utime(one.with_name(f"{one.name}.lock"), (time.time() - 60,) * 2)
        three = using.enter_context(cache.hold(models["three"]))
        assert set(cached(settings)) == {one, three}, "the oldest was in use"
    with cache.hold(models["two"]):
        assert set(cached(settings)) == {two, three}
    monkeypatch.setattr(model_cache, "LEAST_FREE_BYTES", 2**60)
    with cache.hold(models["two"]):
        pass
    with pytest.raises(OSError, match=r"the model needs 0\.0 GB, but .* has .* GB free"), cache.hold(models["one"]):
        pass


def test_a_fetch_stops_when_its_attempt_is_over(cache: ModelCache, add: Add) -> None:
    with pytest.raises(FetchStopped), cache.hold(add("one"), is_over=lambda: True):
        pass


def test_the_next_worker_uses_the_cache_of_one_that_died(
    cache: ModelCache, add: Add, settings: Settings, tmp_path: Path
) -> None:
    """The worker is killed before and after it moves a file into the cache."""
    model = add("one")
    script = """
import json, sys
from types import SimpleNamespace
from app.settings import Settings
from app.storage import Storage
from worker.host.model_cache import ModelCache
settings = Settings()
with ModelCache(settings, Storage(settings.storage)).hold(SimpleNamespace(name="one", files=json.load(sys.stdin))):
    pass
"""
    files = str(model.files).replace("'", '"').encode()
    folders = {"TUNEWRIGHT_DATA_DIR": str(settings.data_dir), "TUNEWRIGHT_CACHE_DIR": str(settings.cache_dir)}
    for when in ("before", "after"):
        failing = os.environ | folders | {"FAILPOINT": f"{when}_keep_model_file:kill@2"}
        done = subprocess.run([sys.executable, "-c", script], input=files, env=failing, check=False)
        assert done.returncode == -9
    with cache.hold(model) as folder:
        assert (folder / "model.safetensors").read_bytes() == safetensors(SHAPES)
        assert not list(folder.glob(".partial-*"))

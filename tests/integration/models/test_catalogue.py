"""The catalogue: filled by the command, read over HTTP."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient

from app.db.session import Sessions, transaction
from app.models import hub
from app.models.folder import read_folder
from app.models.service import ModelService
from app.settings import Settings
from tests.integration.models.conftest import COMMIT

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_model_is_added_shown_and_removed(api: TestClient, run_models: Run, model_folder: Path) -> None:
    added = run_models("add", "house/tiny-llama", "--path", str(model_folder))
    assert (added.returncode, added.stderr) == (0, "")
    assert "house/tiny-llama: LlamaForCausalLM, 432 parameters, up to 128 tokens, 2 linear layers" in added.stdout
    model = api.get("/models/house/tiny-llama").json()
    assert (model["num_parameters"], model["max_seq_len"]) == (432, 128)
    assert model["linear_modules"] == ["model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj"]
    assert api.get("/models").json() == {"items": [model], "next_cursor": None}
    assert run_models("list").stdout == added.stdout
    assert run_models("remove", "house/tiny-llama").returncode == 0
    gone = api.get("/models/house/tiny-llama")
    assert (gone.status_code, gone.json()["code"]) == (404, "model_not_found")
    again = run_models("remove", "house/tiny-llama")
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)


def test_the_same_model_again_is_fine_and_another_is_not(
    run_models: Run, model_folder: Path, sessions: Sessions, project_id: str
) -> None:
    assert run_models("add", "tiny", "--path", str(model_folder)).returncode == 0
    moved = model_folder.rename(model_folder.with_name("moved"))
    assert run_models("add", "tiny", "--path", str(moved)).returncode == 0
    with transaction(sessions) as session:
        assert ModelService(session).get(project_id, "tiny").source == str(moved)
    (moved / "tokenizer.json").write_text('{"other": true}')
    refused = run_models("add", "tiny", "--path", str(moved))
    assert refused.returncode == 1
    assert "already has a different model" in refused.stderr
    assert run_models("add", "tiny", "--path", str(moved), "--project", "other").returncode == 0


def test_bad_requests_are_one_line_each(run_models: Run, model_folder: Path) -> None:
    for arguments, says in (
        (["add", "../x", "--path", str(model_folder)], "cannot name a model"),
        (["add", "tiny", "--path", "/nowhere"], "no folder /nowhere"),
        (["add", "tiny", "--hub", "no-org", "--revision", COMMIT], "ORG/NAME"),
        (["add", "tiny", "--hub", "org/name", "--revision", "main"], "40 hex digits"),
    ):
        refused = run_models(*arguments)
        assert refused.returncode == 1
        assert says in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_a_hub_model_is_fetched_once(
    api: TestClient, run_models: Run, hub_url: str, settings: Settings, sessions: Sessions, project_id: str
) -> None:
    add = ("add", "tiny", "--hub", "org/name", "--revision", COMMIT)
    added = run_models(*add, HF_ENDPOINT=hub_url)
    assert added.returncode == 0, added.stderr
    assert api.get("/models/tiny").json()["revision"] == COMMIT
    with transaction(sessions) as session:
        model = ModelService(session).get(project_id, "tiny")
    folder = hub.locate(model.source, model.revision, settings.cache_dir)
    assert read_folder(folder).num_parameters == 432
    assert run_models(*add, HF_ENDPOINT="http://127.0.0.1:9").returncode == 0
    assert hub.locate("/some/folder", "any", settings.cache_dir) == Path("/some/folder")


def test_a_hub_that_lacks_the_model_or_is_out_of_reach(run_models: Run, hub_url: str) -> None:
    for environment in ({"HF_ENDPOINT": hub_url}, {"HF_HUB_OFFLINE": "1"}):
        refused = run_models("add", "tiny", "--hub", "org/other", "--revision", COMMIT, **environment)
        assert refused.returncode == 1
        assert refused.stderr.startswith("org/other at 0123456789ab cannot be fetched: ")
        assert refused.stderr.count("\n") == 1


def test_names_that_name_nothing(
    api: TestClient, run_models: Run, model_folder: Path, as_project: Callable[[str], dict[str, str]]
) -> None:
    run_models("add", "tiny", "--path", str(model_folder))
    for name in ("huge", "tiny/x", "%00", "x" * 300):
        answer = api.get(f"/models/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
    assert api.get("/models/tiny", headers=as_project("other")).json()["code"] == "model_not_found"
    assert api.get("/models", headers=as_project("other")).json()["items"] == []

"""The command registers models; each project sees over HTTP the models that it may use."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db.session import Sessions, transaction
from app.db.tables import Job
from app.domain.caller import ADMIN
from app.domain.ids import new_id
from app.projects.lookup import find_or_create_project
from tests.fixtures.hub import COMMIT

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_model_is_added_shown_and_removed(api: TestClient, run_models: Run, model_folder: Path) -> None:
    added = run_models("add", "house/tiny-llama", "--path", str(model_folder))
    assert (added.returncode, added.stderr) == (0, "")
    assert "house/tiny-llama: LlamaForCausalLM, 432 parameters, up to 128 tokens, 2 linear layers" in added.stdout
    model = api.get("/models/house/tiny-llama").json()
    assert (model["num_parameters"], model["max_seq_len"]) == (432, 128)
    assert model["linear_modules"] == ["model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj"]
    assert (model["state"], model["failure"], model["path"]) == ("ready", None, None)
    text = model.pop("license_text")
    assert (text, api.get("/models").json()) == (None, {"items": [model], "next_cursor": None})
    assert model["projects"] is None
    assert run_models("list").stdout == added.stdout
    assert run_models("remove", "house/tiny-llama").returncode == 0
    removed = api.get("/models/house/tiny-llama")
    assert (removed.status_code, removed.json()["code"]) == (404, "model_not_found")
    again = run_models("remove", "house/tiny-llama")
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)


def test_adding_the_same_model_again_works_and_a_different_one_is_refused(run_models: Run, model_folder: Path) -> None:
    assert run_models("add", "tiny", "--path", str(model_folder)).returncode == 0
    moved = model_folder.rename(model_folder.with_name("moved"))
    assert run_models("add", "tiny", "--path", str(moved)).returncode == 0
    (moved / "tokenizer.json").write_text('{"other": true}')
    refused = run_models("add", "tiny", "--path", str(moved))
    assert refused.returncode == 1
    assert "already has a different model" in refused.stderr


def test_a_folder_is_added_with_its_name_on_the_hub(api: TestClient, run_models: Run, model_folder: Path) -> None:
    """The hub name can also be set or corrected later; adding the folder without one keeps it."""
    add = ("add", "tiny", "--path", str(model_folder))
    assert "stated as" not in run_models(*add).stdout
    for flags, stated in (
        (("--hub-name", "org/name", "--revision", COMMIT), ("org/name", COMMIT)),
        ((), ("org/name", COMMIT)),
        (("--hub-name", "org/name"), ("org/name", None)),
    ):
        added = run_models(*add, *flags)
        assert f"stated as org/name at {stated[1] or 'an unknown commit'}" in added.stdout
        model = api.get("/models/tiny").json()
        assert (model["hub_name"], model["hub_revision"], model["hub"]) == (*stated, None)


def test_bad_arguments_are_reported_in_one_line(run_models: Run, model_folder: Path) -> None:
    for arguments, message in (
        (["add", "../x", "--path", str(model_folder)], "is not a valid model name"),
        (["add", "tiny", "--path", "/nowhere"], "No such folder: /nowhere"),
        (["add", "tiny", "--hub", "no-org"], "ORG/NAME"),
        (["add", "tiny", "--path", str(model_folder), "--revision", "main"], "A folder has no revisions"),
        (["add", "tiny", "--path", str(model_folder), "--hub-name", "no-org"], "is not a hub id"),
        (
            ["add", "tiny", "--path", str(model_folder), "--hub-name", "a/b", "--revision", "main"],
            "not a commit of a/b",
        ),
        (["add", "tiny", "--hub", "a/b", "--hub-name", "a/b"], "omit it with --hub"),
    ):
        refused = run_models(*arguments)
        assert refused.returncode == 1
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_an_unknown_name_is_not_found(api: TestClient, run_models: Run, model_folder: Path) -> None:
    run_models("add", "tiny", "--path", str(model_folder))
    for name in ("huge", "tiny/x", "%00", "x" * 300):
        answer = api.get(f"/models/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


def names(answer: Any) -> list[str]:
    return [model["name"] for model in answer.json()["items"]]


def test_a_project_sees_what_it_may_use(
    api: TestClient, run_models: Run, model_folder: Path, make_key: Callable[..., str]
) -> None:
    """This holds for the list, by name, under `/v1` and in the check of a job. An admin's key sees all models."""
    keys = {project: {"Authorization": f"Bearer {make_key(project)}"} for project in ("default", "one", "two")}
    admin = {"Authorization": f"Bearer {make_key('two', 'read', 'admin')}"}
    for name, flags in (("open", ()), ("kept", ("--projects", "one,default"))):
        assert run_models("add", name, "--path", str(model_folder), *flags).returncode == 0
    for project, seen in (("default", ["kept", "open"]), ("one", ["kept", "open"]), ("two", ["open"])):
        assert names(api.get("/models", headers=keys[project])) == seen
        assert [each["id"] for each in api.get("/v1/models", headers=keys[project]).json()["data"]] == seen
        assert api.get("/models/kept", headers=keys[project]).status_code == (200 if "kept" in seen else 404)
        spec = {"base_model": "kept", "dataset_id": "none", "training": {"max_steps": 1}}
        refused = {each["code"] for each in api.post("/jobs", json=spec, headers=keys[project]).json()["errors"]}
        assert ("model_not_found" in refused) == ("kept" not in seen)
    assert api.get("/models/kept", headers=keys["one"]).json()["projects"] == ["one"], (
        "the names of other projects are hidden"
    )
    assert names(api.get("/models", headers=admin)) == ["kept", "open"]
    assert api.get("/models/kept", headers=admin).json()["projects"] == ["default", "one"]


def test_adding_a_model_again_changes_which_projects_may_use_it(
    api: TestClient, run_models: Run, model_folder: Path, as_project: Callable[[str], dict[str, str]]
) -> None:
    other = as_project("other")
    add = ("add", "tiny", "--path", str(model_folder))
    refused = run_models(*add, "--projects", "other,typo")
    assert (refused.returncode, refused.stderr) == (
        1,
        "No project has the name 'typo'; name existing projects, or none to allow all.\n",
    )
    assert api.get("/models").json()["items"] == []
    for flags, seen in ((("--projects", "default"), []), (("--projects", "other"), ["tiny"]), ((), ["tiny"])):
        assert run_models(*add, *flags).returncode == 0
        assert names(api.get("/models", headers=other)) == seen


def test_only_an_admin_removes_a_model_and_only_if_no_job_uses_it(
    api: TestClient, run_models: Run, model_folder: Path, make_key: Callable[..., str], sessions: Sessions
) -> None:
    run_models("add", "house/tiny", "--path", str(model_folder))
    refused = api.delete("/models/house/tiny")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "--scope admin" in refused.json()["detail"]
    admin = {"Authorization": f"Bearer {make_key('elsewhere', *ADMIN)}"}
    with transaction(sessions) as session:
        session.add(job := make_job(find_or_create_project(session, "default"), "house/tiny"))
    refused = api.delete("/models/house/tiny", headers=admin)
    assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
    assert job.id in refused.json()["detail"]
    with transaction(sessions) as session:
        session.execute(update(Job).values(state="cancelled"))
    assert api.delete("/models/house/tiny", headers=admin).status_code == 204
    assert api.delete("/models/house/tiny", headers=admin).json()["code"] == "model_not_found"


def make_job(project_id: str, base_model: str) -> Job:
    fields = {"state": "queued", "priority": 0, "method": "lora", "spec": {}, "metadata_": {}, "device": "auto"}
    return Job(id=new_id("ftjob"), project_id=project_id, base_model=base_model, min_memory_gb=0, **fields)

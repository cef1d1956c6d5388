"""What a tracking process may see and say."""

from pathlib import Path

import pytest

from worker.processes.tracking import environment
from worker.tracking.__main__ import remove_secrets

GIVEN = {
    "DATABASE_URL": "postgresql://x",
    "PGPASSWORD": "p",
    "AWS_SECRET_ACCESS_KEY": "a",
    "WANDB_API_KEY": "w",
    "MLFLOW_TRACKING_URI": "http://here",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "HTTPS_PROXY": "http://proxy",
}


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_DIR", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def test_a_process_sees_its_own_trackers_variables_alone(tmp_path: Path) -> None:
    seen = environment("wandb", tmp_path / "own", tmp_path / "kept")
    assert seen.keys() & GIVEN.keys() == {"WANDB_API_KEY", "HTTPS_PROXY", "MLFLOW_HTTP_REQUEST_TIMEOUT"}
    assert seen["MLFLOW_HTTP_REQUEST_TIMEOUT"] != "3"
    assert seen["HOME"] == seen["WANDB_DIR"] == str(tmp_path / "own")
    seen = environment("mlflow", tmp_path / "own", tmp_path / "kept")
    assert seen.keys() & GIVEN.keys() == {"MLFLOW_TRACKING_URI", "HTTPS_PROXY", "MLFLOW_HTTP_REQUEST_TIMEOUT"}
    assert seen["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
    assert environment("tensorboard", tmp_path, tmp_path).keys() & GIVEN.keys() == {
        "HTTPS_PROXY",
        "MLFLOW_HTTP_REQUEST_TIMEOUT",
    }


def test_an_offline_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert environment("wandb", tmp_path / "own", tmp_path / "kept")["WANDB_DIR"] == str(tmp_path / "kept")
    monkeypatch.setenv("WANDB_DIR", "/mine")
    assert environment("wandb", tmp_path / "own", tmp_path / "kept")["WANDB_DIR"] == "/mine"


def test_secrets_are_removed() -> None:
    text = "API request to http://me:pw@here/api failed\n with k-1234 and s3cr3t " + "x" * 1000
    message = remove_secrets(text, {"WANDB_API_KEY": "k-1234", "MLFLOW_TRACKING_PASSWORD": "s3cr3t", "A_TOKEN": ""})
    assert message.startswith("API request to http://here/api failed with … and … x")
    assert len(message) == 300

"""Tests that the calls that the page shows create the job of its form: each is run, and its body compared."""

import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import pytest
from typer.testing import CliRunner

from app.domain.jobs.spec import LEARNING_RATES, JobSpec
from app.openai.jobs.spec import CreateJob, spec_of
from tunewright.commands import jobs
from tunewright.commands.spec.options import OPTIONS

SCRIPT = Path(__file__).parent / "js" / "write_calls.js"
DATASET, OTHER = "file-5f0c1d2e3a4b5c6d7e8f9a0b", "file-0123456789abcdef01234567"
SMALL: dict[str, Any] = {"base_model": "qwen3-4b", "dataset_id": DATASET, "training": {"epochs": 3}}
REQUESTS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "adapter": SMALL
    | {
        "name": 'it\'s a "test" $HOME `id` \\ é 漢\n',
        "method": "lora",
        "validation_split": 0.1,
        "adapter": {
            "rank": 64,
            "alpha": 12.5,
            "use_dora": True,
            "target_modules": ["q_proj", "v_proj"],
            "init": "pissa",
        },
        "training": {
            "epochs": 1.5,
            "learning_rate": 3e-4,
            "batch_size": 512,
            "seed": 7,
            "gradient_checkpointing": True,
        },
        "metadata": {"team": "it's", "a=b": "-c"},
    },
    "options": SMALL
    | {
        "validation_dataset_id": OTHER,
        "on_bad_rows": {"action": "skip", "max_share": 0.05},
        "resources": {"device": "cuda", "gpu": ["RTX 4090", "H100"], "labels": {"pool": "a"}, "min_memory_gb": 24},
        "training": {"max_steps": 500, "learning_rate": 1e-3, "warmup_ratio": 1e-05, "early_stopping": {"patience": 3}},
        "name": "-leading",
        "metadata": {"team": "support", "empty": ""},
        "suffix": "v2",
        "priority": -5,
        "max_duration_seconds": 7200,
        "integrations": [{"type": "wandb", "wandb": {"project": "my project"}}, {"type": "tensorboard"}],
    },
    "preferences": SMALL
    | {
        "objective": "dpo",
        "dpo": {"beta": 0.3},
        "training": {"epochs": 2, "learning_rate": 2e-6, "save_every_seconds": 60},
    },
    "full": SMALL
    | {
        "method": "full",
        "training": {"epochs": 2, "learning_rate": 2e-5, "memory": "min", "optimizer": "adamw_8bit"},
        "integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["a"]}}],
    },
    "start": SMALL | {"init_from": "ft:qwen3-4b:support:1a2b3c4d:ckpt-step-88", "adapter": {"rank": 8}},
}


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """Return the page's calls, written by its scripts."""
    deno = shutil.which("deno", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert deno, "the extra `browser` has Deno"
    environment = os.environ | {"DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    asked = json.dumps(list(REQUESTS.values()))
    done = subprocess.run(
        [deno, "run", "--no-remote", "--no-config", str(SCRIPT)],
        input=asked,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(params=REQUESTS)
def request_and_call(request: pytest.FixtureRequest, written: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    at = list(REQUESTS).index(request.param)
    return REQUESTS[request.param], written["calls"][at]


def test_curl_sends_the_request(request_and_call: tuple[dict[str, Any], dict[str, str]]) -> None:
    request, call = request_and_call
    words = shlex.split(call["curl"].replace("\\\n", ""))
    assert words[:2] == ["curl", "http://gpu.lan:8400/jobs"]
    assert json.loads(words[words.index("-d") + 1]) == request


def test_the_client_sends_the_request(
    request_and_call: tuple[dict[str, Any], dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request, call = request_and_call
    monkeypatch.setattr("tunewright.Client", RecordingClient)
    run_script(call["python"], tmp_path)
    assert RecordingClient.sent == request


def test_the_command_line_sends_the_request(
    request_and_call: tuple[dict[str, Any], dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request, call = request_and_call
    monkeypatch.setattr(jobs, "Client", RecordingClient)
    command, _, document = call["cli"].partition(" <<'JSON'\n")
    spec = tmp_path / "spec.json"
    spec.write_text(document.removesuffix("\nJSON"))
    words = shlex.split(command.replace("\\\n", "").replace("/dev/stdin", str(spec)))
    assert words[:4] == ["TUNEWRIGHT_URL=http://gpu.lan:8400", "tunewright", "jobs", "create"]
    done = CliRunner().invoke(jobs.app, words[3:])
    assert done.exit_code == 0, done.output
    assert JobSpec.model_validate(RecordingClient.sent) == JobSpec.model_validate(request)


def test_the_shell_reads_the_command_as_it_is_tested(request_and_call: tuple[dict[str, Any], dict[str, str]]) -> None:
    """A real shell runs the lines, with a program that prints what it gets."""
    _, call = request_and_call
    command, _, document = call["cli"].partition(" <<'JSON'\n")
    shown = "tunewright() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' \"$@\"; }\n"
    done = subprocess.run(["sh", "-c", shown + call["cli"]], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == shlex.split(command.replace("\\\n", ""))[2:]
    assert not document or json.loads(document.removesuffix("\nJSON"))


def test_openais_client_creates_the_same_job(
    request_and_call: tuple[dict[str, Any], dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request, call = request_and_call
    monkeypatch.setitem(sys.modules, "openai", recording_openai())
    monkeypatch.setenv("TUNEWRIGHT_API_KEY", "tw_1")
    run_script(call["openai"], tmp_path)
    sent = dict(RecordingClient.sent)
    body = CreateJob.model_validate(sent.pop("extra_body", {}) | sent)
    rate = LEARNING_RATES[request.get("objective", "sft")][request.get("method", "qlora")]
    spec, errors = spec_of(body, num_bytes=2**30, seed=12345, base_rate=rate)
    assert not errors
    assert JobSpec.model_validate(spec) == JobSpec.model_validate(request)


def test_the_page_knows_the_options_of_the_command_line(written: dict[str, Any]) -> None:
    own = {option.field: f"--{option.name.replace('_', '-')}" for option in OPTIONS if option.field != "on_bad_rows"}
    given = {"dataset_id": "--dataset", "validation_dataset_id": "--validation-dataset"}
    assert written["options"] == own | given


def run_script(text: str, folder: Path) -> None:
    script = folder / "call.py"
    script.write_text(text)
    runpy.run_path(str(script))


class RecordingClient:
    """Keeps the body of the job that a call creates."""

    sent: ClassVar[dict[str, Any]] = {}

    def __init__(self, url: str | None = None) -> None:
        assert url in (None, "http://gpu.lan:8400")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def create_job(self, *, idempotency_key: str | None = None, **body: Any) -> Any:
        assert idempotency_key is None
        RecordingClient.sent = body
        return type("Job", (), {"id": "ftjob-1", "raw": {}})


def recording_openai() -> ModuleType:
    """Return a module like OpenAI's that keeps the arguments of a creation."""
    module = ModuleType("openai")

    class OpenAI:
        def __init__(self, base_url: str, api_key: str) -> None:
            assert (base_url, api_key) == ("http://gpu.lan:8400/v1", "tw_1")
            self.fine_tuning = type(
                "FineTuning",
                (),
                {"jobs": type("Jobs", (), {"create": RecordingClient("http://gpu.lan:8400").create_job})},
            )

    module.OpenAI = OpenAI  # type: ignore[attr-defined]
    return module

"""Compares docker-compose.yml and both Dockerfiles with the project: everything that they name must exist."""

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import uvicorn
import yaml
from celery import Celery
from celery.bin.worker import worker as celery_worker
from packaging.requirements import Requirement

from app import outbox
from app.local.api import configure
from app.main import create_app
from app.models.__main__ import parse as parse_models
from app.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILES = ["Dockerfile", "Dockerfile.gpu"]
STORAGE_SERVICES = {"api", "dispatcher", "worker", "worker-light"}
"""Services that use the storage of `STORAGE_URL`."""

SETTINGS = {
    str(field.validation_alias or f"TUNEWRIGHT_{name.upper()}"): name for name, field in Settings.model_fields.items()
}
FOREIGN = {"PGPASSWORD", "PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
"""Variables that libpq, the shell and Python read."""
OTHERS = {"postgres": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}, "valkey": {"REDISCLI_AUTH"}}
STORE = {"AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
HUB = {"HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTPS_PROXY", "NO_PROXY"}
"""Variables passed from the host to the services that fetch models."""
PASSWORDS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^{}]*))?\}")


TWO_MACHINES = (ROOT / "docs/two-machines.md").read_text()


def fill_in(text: str) -> str:
    """Fill in variables as Compose does when only the passwords are set."""

    def value(match: re.Match[str]) -> str:
        assert match[2] == "-" or match[1] in PASSWORDS, f"{match[0]} has no default"
        return match[3] if match[2] == "-" else "s3cr3t"

    while VARIABLE.search(text):  # the innermost first
        text = VARIABLE.sub(value, text)
    return text


def instructions(name: str) -> list[tuple[str, str]]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line.strip() and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in whole.splitlines())]


def arguments(name: str, instruction: str) -> list[str]:
    return [rest for word, rest in instructions(name) if word == instruction]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command that one of our containers runs."""
    for name, service in OURS.items():
        yield name, service["command"]
    for dockerfile in DOCKERFILES:
        (command,) = arguments(dockerfile, "CMD")
        yield dockerfile, yaml.safe_load(command)


def parse_options(command: click.Command, words: list[str]) -> dict[str, Any]:
    """Return the given options; raise for an unknown one."""
    options, rest, _ = command.make_parser(click.Context(command)).parse_args(list(words))
    return options | {"arguments": rest}


def volumes(service: dict[str, Any]) -> dict[str, str]:
    """Return sources by target; the source of an anonymous volume is empty."""
    found = {}
    for volume in service.get("volumes", []):
        source, _, target = fill_in(volume).removesuffix(":ro").rpartition(":")
        found[target] = source
    return found


@pytest.mark.parametrize(("place", "command"), list(commands()))
def test_commands_exist(place: str, command: list[str]) -> None:
    program, *words = command
    scripts = {script.name for script in entry_points(group="console_scripts")}
    if program == "python":
        assert words[0] == "-m"
        assert find_spec(words[1]), words[1]
        return
    assert program in scripts
    if program == "uvicorn":
        options = parse_options(uvicorn.main, words)
        (app,) = [word for word in [options.get("app"), *options["arguments"]] if word]
        module, _, factory = app.partition(":")
        assert options["factory"]
        assert callable(getattr(importlib.import_module(module), factory))
        embedded = configure()
        assert (options["http"], options["ws"]) == (embedded.http, embedded.ws)
    else:
        assert words[0] == "-A"
        assert isinstance(importlib.import_module(words[1]).app, Celery)
        assert words[2] == "worker"
        assert parse_options(celery_worker, words[3:])["arguments"] == []


def queues(command: list[str]) -> set[str]:
    return set(command[command.index("-Q") + 1].split(","))


def test_every_queue_has_a_worker() -> None:
    from worker.celery_app import app

    served = [queues(service["command"]) for service in OURS.values() if service["command"][0] == "celery"]
    assert set.union(*served) == set(app.conf.task_routes.values()) == {task.queue for task in outbox.TASKS.values()}
    assert sum(map(len, served)) == len(set.union(*served))
    for task, queue in app.conf.task_routes.items():
        module, _, function = task.rpartition(".")
        assert hasattr(importlib.import_module(module), function)
        assert outbox.Task(task, queue) in outbox.TASKS.values()


def test_light_worker_and_server_need_no_torch() -> None:
    """Their image has no torch."""
    for service in OURS.values():
        if service["build"]["dockerfile"] == "Dockerfile":
            assert "training" not in service["command"]
    blocked = "import sys\nfor name in ('torch', 'transformers', 'peft', 'bitsandbytes'): sys.modules[name] = None\n"
    loaded = "import app.main, app.dispatcher, app.db.migrate, app.keys.__main__, app.models.__main__, worker.tasks"
    subprocess.run([sys.executable, "-c", blocked + loaded], check=True, cwd=ROOT)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_copied_paths_exist_and_are_not_ignored(dockerfile: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source for copy in arguments(dockerfile, "COPY") for source in shlex.split(copy)[:-1]]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in allowed, source
    everything = {source for file in DOCKERFILES for copy in arguments(file, "COPY") for source in copy.split()[:-1]}
    assert allowed == everything


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_installs_name_extras_and_constraints_of_the_project(dockerfile: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    installs = [run for run in arguments(dockerfile, "RUN") if "pip install" in run]
    assert installs
    for install in installs:
        (named,) = re.findall(r"\.\[([\w,]+)\]", install)
        assert set(named.split(",")) <= extras.keys()
        assert "--constraint constraints.txt" in install
    for needed in (project["readme"], *project["license-files"]):
        assert any(needed in copy.split() for copy in arguments(dockerfile, "COPY"))


def test_server_image_gets_no_torch() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (install,) = [run for run in arguments("Dockerfile", "RUN") if "pip install" in run]
    assert "'.[server,tokenizer]'" in install
    needs = [*extras["server"], *extras["tokenizer"]]
    assert not [need for need in needs if re.match("torch|peft|bitsandbytes|accelerate|tunewright", need)]


def test_environment_names_are_settings() -> None:
    for name, service in SERVICES.items():
        known = SETTINGS.keys() | FOREIGN | STORE | HUB if name in OURS else OTHERS[name]
        assert service.get("environment", {}).keys() <= known, name
    for dockerfile in DOCKERFILES:
        for line in arguments(dockerfile, "ENV"):
            assert {word.split("=")[0] for word in shlex.split(line)} <= SETTINGS.keys() | FOREIGN
    guide = (ROOT / "docs/deploy.md").read_text()
    for name in set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())):
        assert f"`{name}`" in guide or f"{name}=" in guide, f"{name} is not in docs/deploy.md"


@pytest.fixture(params=sorted(OURS))
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Settings]:
    """Return each service's name and its settings as its process reads them."""
    for name, value in OURS[request.param]["environment"].items():
        if value is not None:  # passed on from the host, where it is set
            monkeypatch.setenv(name, fill_in(value))
    return request.param, Settings()


def test_services_reach_each_other(settings: tuple[str, Settings]) -> None:
    for url, port in ((settings[1].database_url, 5432), (settings[1].redis_url, 6379)):
        parts = urlsplit(url)
        assert parts.hostname in SERVICES
        assert parts.port == port
        assert parts.password in (None, "s3cr3t"), "a shared file must hold no password"
    database = urlsplit(settings[1].database_url)
    image = SERVICES["postgres"]["environment"]
    assert (database.username, database.path[1:]) == (image["POSTGRES_USER"], image["POSTGRES_DB"])


def test_stored_files_are_on_volumes(settings: tuple[str, Settings]) -> None:
    name, read = settings
    mounted = volumes(OURS[name])
    if name in STORAGE_SERVICES:
        assert mounted[urlsplit(read.storage).path] == "storage"
    if name in ("worker", "worker-light"):
        assert mounted[str(read.cache_dir)] == "cache"
    if name == "worker":
        assert mounted[f"{read.data_dir}/work"] == "", "workers must not share the folder of their attempts"


def test_volumes_are_declared_and_writable() -> None:
    for name, service in SERVICES.items():
        for target, source in volumes(service).items():
            assert source.startswith(("/", "./")) or not source or source in COMPOSE["volumes"], source
            if name in OURS and not source.startswith("."):
                # A volume gets its owner from the image's folder. If root owned it, no other user could write.
                run = " ".join(arguments(service["build"]["dockerfile"], "RUN"))
                made = re.search(r"install -d -o tunewright -g tunewright ([\w/ ]+)", run)
                assert made
                assert target in made[1].split()
    used = {source for service in SERVICES.values() for source in volumes(service).values()}
    assert COMPOSE["volumes"].keys() <= used


def test_models_have_the_same_path_in_every_service() -> None:
    """The light worker reads a folder that is posted to the API; training workers read models from storage."""
    for name in ("api", "worker-light"):
        assert volumes(OURS[name])["/models"]
        assert OURS[name]["environment"]["TUNEWRIGHT_MODEL_ROOTS"] == "/models"
    assert "/models" not in volumes(OURS["worker"])


def test_only_services_that_fetch_models_use_the_hub() -> None:
    users = {name for name, service in OURS.items() if "HF_TOKEN" in service.get("environment", {})}
    assert users == {"api", "worker-light"}


def test_secrets_come_from_outside() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "AUTH" in name:
                assert value.startswith(tuple(f"${{{password}:?" for password in PASSWORDS))


def test_redis_requires_a_password() -> None:
    """A client without one could stop workers and forge live metrics."""
    command = [fill_in(word) for word in SERVICES["valkey"]["command"]]
    assert command[command.index("--requirepass") + 1] == "s3cr3t"
    for service in OURS.values():
        assert fill_in(service["environment"]["REDIS_URL"]) == "redis://:s3cr3t@valkey:6379/0"


def test_only_the_api_is_published_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"api"}
    (port,) = published["api"]
    assert fill_in(port) == f"127.0.0.1:{Settings.model_fields['port'].default}:8400"
    assert not [name for name, service in SERVICES.items() if "network_mode" in service or service.get("privileged")]


def test_ports_agree() -> None:
    port = str(Settings.model_fields["port"].default)
    command = OURS["api"]["command"]
    assert command[command.index("--port") + 1] == port
    assert arguments("Dockerfile", "EXPOSE") == [port]


def test_api_health_check() -> None:
    *_, code = OURS["api"]["healthcheck"]["test"]
    compile(code, "healthcheck", "exec")
    port, path = re.findall(r'"127\.0\.0\.1", (\d+)|"GET", "([^"]+)"', code)
    assert int(port[0]) == Settings.model_fields["port"].default
    assert path[1] in create_app(Settings()).openapi()["paths"]


def test_dependencies_exist_and_can_be_waited_for() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert SERVICES[name]["restart"] == "on-failure"
    assert SERVICES["migrate"]["command"] == ["python", "-m", "app.db.migrate"]
    for name in STORAGE_SERVICES:
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_training_worker_has_a_gpu() -> None:
    (device,) = OURS["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
    assert queues(OURS["worker"]["command"]) == {"training"}
    assert OURS["worker"]["build"]["dockerfile"] == "Dockerfile.gpu"
    assert not [name for name in OURS if name != "worker" and "deploy" in OURS[name]]


def test_the_guides_second_worker_equals_the_first_but_for_its_gpu() -> None:
    """`count` would give every container the same GPUs, starting with the first."""
    (block,) = re.findall(r"```yaml\n(  worker-1:\n.*?)```", (ROOT / "docs/deploy.md").read_text(), re.S)
    text = (ROOT / "docker-compose.yml").read_text().replace("\n  worker-light:\n", f"\n{block}\n  worker-light:\n")
    first, second = (yaml.safe_load(text)["services"][name] for name in ("worker", "worker-1"))
    devices = [service.pop("deploy")["resources"]["reservations"]["devices"] for service in (first, second)]
    assert devices[1] == [devices[0][0] | {"device_ids": ["1"]}]
    assert second == first


def test_the_gpu_image_has_the_tested_versions_and_a_compiler() -> None:
    """The base image has torch's CUDA version; otherwise its check at the start would accept an older driver."""
    assert re.fullmatch(r"nvidia/cuda:13\.0\.\d+-base-ubuntu24\.04", arguments("Dockerfile.gpu", "FROM")[0])
    runs = " ".join(arguments("Dockerfile.gpu", "RUN"))
    assert {"gcc", "libc6-dev", "python3-dev"} <= set(runs.split())
    (install,) = [run for run in arguments("Dockerfile.gpu", "RUN") if "pip install" in run]
    assert "--constraint constraints-gpu.txt" in install
    pinned = dict(line.split("==") for line in (ROOT / "constraints-gpu.txt").read_text().split())
    assert pinned.keys() == {"torch", "triton"}
    assert pinned["torch"].split(".")[:2] == version("torch").split(".")[:2]
    worker = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["worker"]
    (torch,) = [Requirement(need) for need in worker if Requirement(need).name == "torch"]
    assert pinned["torch"] in torch.specifier
    assert "2.11.0" in torch.specifier
    assert "2.14.0" not in torch.specifier


def test_stopping_leaves_time_to_drain() -> None:
    seconds = {"s": 1, "m": 60}
    period = OURS["worker"]["stop_grace_period"]
    assert int(period[:-1]) * seconds[period[-1]] >= 2 * Settings.model_fields["drain_timeout_seconds"].default


def test_nothing_runs_as_root() -> None:
    for dockerfile in DOCKERFILES:
        words = [(word, rest) for word, rest in instructions(dockerfile) if word in ("USER", "CMD")]
        assert words[0] == ("USER", "tunewright")
        assert len(words) == 2
        assert "useradd --uid 10001 --create-home tunewright" in " ".join(arguments(dockerfile, "RUN"))
    for name, service in SERVICES.items():
        assert "user" not in service if name in OURS else service["user"] in ("postgres", "valkey")
    for service in OURS.values():
        assert service["cap_drop"] == ["ALL"]


def test_images_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()] + [arguments(file, "FROM")[0] for file in DOCKERFILES]
    for image in images:
        assert re.search(r":\d+\.\d+", image), image


def documented() -> list[list[str]]:
    """Return the words after `docker compose run --rm` in the guides."""
    lines = (ROOT / "docs/deploy.md").read_text().splitlines() + TWO_MACHINES.splitlines()
    prefix = "docker compose run --rm "
    return [shlex.split(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)]


def test_documented_commands_exist() -> None:
    modules = set()
    for service, program, flag, module, *words in documented():
        assert service in OURS
        assert (program, flag) == ("python", "-m")
        modules.add(module)
        if module == "app.models":
            parse_models(words)
        else:
            help_text = subprocess.run(
                [sys.executable, "-m", module, words[0], "--help"], capture_output=True, text=True, check=True, cwd=ROOT
            ).stdout
            assert all(word in help_text for word in words if word.startswith("--"))
    assert modules == {"app.keys", "app.models", "app.projects"}


def test_guide_names_every_volume() -> None:
    guide = (ROOT / "docs/deploy.md").read_text()
    for name in COMPOSE["volumes"]:
        assert f"| `{name}` |" in guide
    assert PurePosixPath("/models").as_posix() in guide


def test_settings_of_two_machines_reach_the_containers() -> None:
    """Every line of the guide's .env is read by docker-compose.yml or by the guide's own override."""
    (lines,) = re.findall(r"```sh\n(POSTGRES_PASSWORD=.*?)```", TWO_MACHINES, re.S)
    overrides = "".join(re.findall(r"```yaml\n(.*?)```", TWO_MACHINES, re.S))
    read = {match[1] for match in re.finditer(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text() + overrides)}
    passed_on = {name for service in OURS.values() for name, value in service["environment"].items() if value is None}
    written = {line.partition("=")[0] for line in lines.splitlines()}
    assert written <= read | passed_on
    assert {"DATABASE_URL", "REDIS_URL", "STORAGE_URL", "HF_TOKEN"} <= written


def test_overrides_of_two_machines_fit_the_services() -> None:
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", TWO_MACHINES, re.S)]
    first, second = (block["services"] for block in blocks)
    assert OURS.keys() <= first.keys() <= SERVICES.keys()
    assert second.keys() == {"worker"}
    for name in ("postgres", "valkey"):
        command = first[name]["command"]
        assert command[0] == SERVICES[name].get("command", ["postgres"])[0]
        assert any(word.endswith("/tls/server.crt") for word in command)
        assert first[name]["ports"][0].startswith("${PRIVATE_ADDRESS:?"), "open to the private network only"
    for name in OURS:
        assert first[name]["volumes"] == ["./tls/ca.crt:/tls/ca.crt:ro"]

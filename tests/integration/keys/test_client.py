"""API keys are managed through the client and the command line, from another machine and on the server's own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.keys.service import FORM, id_of
from tunewright import Client, TunewrightError
from tunewright.command_line import app

ROOT = Path(__file__).parents[3]
Run = Callable[..., str]


def test_the_client_manages_keys(live_server: str, admin_key: str) -> None:
    with Client(live_server, admin_key) as client:
        made = client.create_key("ci", scopes=["read"], expires_after_seconds=3600, idempotency_key="once")
        again = client.create_key("ci", scopes=["read"], expires_after_seconds=3600, idempotency_key="once")
        assert again.raw == made.raw
        assert (made.project, made.scopes, made.state, made.revoked_at) == ("default", ["read"], "active", None)
        assert made.expires_at is not None
        assert (made.expires_at - made.created_at).total_seconds() == pytest.approx(3600, abs=1)
        assert client.get_key(made.id) == made
        new = client.rotate_key(made.id, overlap_seconds=60)
        assert client.get_key(made.id).replaced_by == new.id
        with Client(live_server, new.raw["secret"]) as new_client:
            assert list(new_client.list_jobs()) == []
        assert client.revoke_key(new.id).state == "revoked"
        assert {each.id for each in client.list_keys("default")} == {new.id, made.id, id_of(admin_key)}
        with pytest.raises(TunewrightError) as caught:
            client.revoke_key(id_of(admin_key))
        assert (caught.value.status, caught.value.code) == (409, "own_key")


def test_the_command_line_manages_keys(run: Run, admin_key: str) -> None:
    key = run("keys", "create", "--name", "ci", "--read-only", "--expires", "90d").strip()
    assert FORM.fullmatch(key)
    assert FORM.fullmatch(run("keys", "create", "--scope", "admin").strip())
    summary, new = run("keys", "rotate", id_of(key), "--overlap", "2h").splitlines()
    assert FORM.fullmatch(new)
    assert summary.startswith(f"{id_of(key)} is valid until 20")
    assert run("keys", "revoke", id_of(key)) == f"Revoked {id_of(key)} ('ci' of default).\n"
    listed = {each["id"]: each for each in json.loads(run("keys", "list", "--json"))}
    assert len(listed) == 4
    assert (listed[id_of(key)]["state"], listed[id_of(key)]["replaced_by"]) == ("revoked", id_of(new))
    assert {id_of(new), id_of(key), "ci", "never"} <= set(run("keys", "list").split())
    with pytest.raises(TunewrightError, match="uses this API key itself"):
        run("keys", "revoke", id_of(admin_key))


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--scope", "root"),
        ("create", "--scope", "admin", "--read-only"),
        ("create", "--expires", "soon"),
        ("rotate", "key-0", "--overlap", "-1"),
    ],
)
def test_a_bad_option_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ["keys", *arguments]).exit_code == 2


def test_the_command_on_the_servers_machine_manages_keys(database_url: str, make_key: Callable[..., str]) -> None:
    def keys(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app.keys", *arguments]
        environment = {"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == status, done
        return done

    key = make_key("research")
    rotated = keys("rotate", id_of(key), "--overlap", "1h")
    new = rotated.stdout.strip()
    assert FORM.fullmatch(new)
    assert f"{id_of(new)} replaces it" in rotated.stderr
    assert keys("revoke", id_of(key)).stdout == f"Revoked {id_of(key)} ('test' of research).\n"
    lines = keys("list", "--project", "research").stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"{id_of(new)} active", f"{id_of(key)} revoked"]
    assert lines[1].endswith(f"replaced by {id_of(new)}")
    assert [each["id"] for each in json.loads(keys("list", "--json").stdout)] == [id_of(new), id_of(key)]
    assert "No project has the name 'reserach'" in keys("list", "--project", "reserach", status=1).stderr
    assert "No API key has the id 'key-0'" in keys("revoke", "key-0", status=1).stderr
    assert "is not a duration" in keys("create", "--expires", "soon", status=2).stderr
    assert "is not between" in keys("create", "--expires", "4000d", status=2).stderr

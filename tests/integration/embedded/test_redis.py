import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from app.local import orphans
from app.local.errors import StartError
from app.local.redis import embedded_redis

HOLD = """
import sys, time
from pathlib import Path
from app.local.redis import embedded_redis
with embedded_redis(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(600)
"""


def increment(url: str) -> object:
    with redis.Redis.from_url(url) as client:
        return client.incr("kept")


def test_data_survives_a_restart_and_no_port_is_open(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url:
        assert increment(url) == 1
        with redis.Redis.from_url(url) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
            assert [module for module in client.module_list() if b"graph" in module[b"name"]] == []
    with embedded_redis(tmp_path) as url:
        assert increment(url) == 2


def test_two_servers_run_side_by_side(tmp_path: Path, long_path: Path) -> None:
    with embedded_redis(tmp_path / "one") as first, embedded_redis(long_path) as second:
        assert increment(first) == increment(second) == 1


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url:
        with pytest.raises(StartError, match="already running"), embedded_redis(tmp_path):
            pytest.fail("two servers hold the same folder")
        assert increment(url) == 1


def test_the_server_ends_with_its_killed_parent_and_keeps_its_data(
    tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]], eventually: Callable[..., None]
) -> None:
    holder = spawn("-c", HOLD, str(tmp_path))
    assert holder.stdout
    assert increment(holder.stdout.readline().strip()) == 1
    holder.kill()
    holder.wait()
    with embedded_redis(tmp_path) as url:
        assert increment(url) == 2
    (folder,) = (tmp_path / "redis").iterdir()
    eventually(lambda: not orphans.find_processes(folder, "redis-server", "valkey-server"))

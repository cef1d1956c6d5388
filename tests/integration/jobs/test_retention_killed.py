"""Kills the collector before and after each of its steps; the next run removes the rest, and nothing more."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.db.session import Sessions
from app.jobs.queue.repository import Claim
from app.settings import Settings
from tests.integration.jobs.retention_world import DAY, HOUR, World

ROOT = Path(__file__).parents[3]
DUTIES = """
from app.db.session import connect, open_sessions
from app.dispatcher import Dispatcher
from app.settings import get_settings
settings = get_settings()
dispatcher = Dispatcher(settings, open_sessions(connect(settings.database_url)))
dispatcher.retain()
dispatcher.collect()
"""
STEPS = "visit_attempt", "suspect", "expire_datasets", "let_go_of_checkpoints", "delete_object", "collect"


@pytest.mark.parametrize("step", STEPS)
def test_what_a_killed_collector_leaves_is_finished_by_the_next_run(
    settings: Settings,
    sessions: Sessions,
    project_id: str,
    post: Callable[..., str],
    claim: Callable[..., Claim],
    step: str,
) -> None:
    world = World(settings, sessions, project_id)
    kept = prepare(world, post, claim)
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "TUNEWRIGHT_DATA_DIR": str(settings.data_dir),
        "PYTHONPATH": str(ROOT),
    }
    for failpoint in (f"before_{step}:kill", f"after_{step}:kill"):
        killed = run(environment | {"FAILPOINT": failpoint})
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert kept <= world.stored()
    for _ in range(2):
        world.collect()
        world.pass_time(2 * HOUR)
    world.collect()
    assert world.stored() == kept


def prepare(world: World, post: Callable[..., str], claim: Callable[..., Claim]) -> set[str]:
    """Give each step something to do, and return the keys that must stay."""
    kept_dataset = world.upload()
    world.upload(expires_after_seconds=HOUR)
    world.upload_and_die()
    post()
    ended = claim()
    world.save_checkpoint(ended, 1)
    world.store(ended, "checkpoints/2/w.bin")
    world.succeed(ended)
    result = {key for key in world.named() if "/result/" in key}
    post()
    held = claim()
    live = {*world.save_checkpoint(held, 1), world.store(held, "checkpoints/2/w.bin")}
    world.pass_time(10 * DAY)
    return {f"{world.project_id}/datasets/{kept_dataset}", *result, *live}


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DUTIES]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

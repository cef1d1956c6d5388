"""A training process that sends false messages fails its job; nothing outside its folder is read, stored or removed."""

import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import Artifact, Attempt, Checkpoint, Job
from app.domain.jobs.state import JobPhase
from app.settings import Settings
from worker.attempt.runner import AttemptRunner
from worker.processes.child_messages import MAX_WAITING_BYTES, MessageQueue, ProtocolBroken
from worker.training.runtime.messages import PhaseEntered

MARKER = "s3cret-of-another-project"
PRELUDE = """
import json, os, sys, time
request = json.loads(sys.stdin.readline())
work, log, victim = request["work_dir"], request["log_path"], {victim!r}
def say(kind, **fields):
    sys.stdout.write(json.dumps(dict(fields, kind=kind)) + chr(10))
    sys.stdout.flush()
def write(path, text="text"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
result = work + "/result"
"""
MANIFEST = 'write(result + "/manifest.json", "{}")\n'
FINISH = 'say("finished", path=result)'
MEBIBYTES = 64
LIES = {
    "a line without an end": f'for _ in range({MEBIBYTES}):\n    sys.stdout.write("x" * 2**20)\ntime.sleep(20)',
    "no JSON": 'print("{", flush=True)\ntime.sleep(20)',
    "too many metrics": 'for n in range(65):\n    say("measured", step=n, values={f"m{n}": 1.0})\ntime.sleep(20)',
    "a metric's name": 'say("measured", step=1, values={"lo\\0ss": 1.0})\ntime.sleep(20)',
    "no step": 'say("measured", step=10**30, values={"loss": 1.0})\ntime.sleep(20)',
    "a result elsewhere": 'say("finished", path=victim)',
    "a result above": 'say("finished", path=work + "/../../../../victim")',
    "a result that is a link": f"os.symlink(victim, result)\n{FINISH}",
    "a file that is a link": f'{MANIFEST}os.symlink(victim + "/manifest.json", result + "/model.bin")\n{FINISH}',
    "a folder that is a link": f'{MANIFEST}os.symlink(victim, result + "/more")\n{FINISH}',
    "a manifest that is a link": "os.mkdir(result)\n"
    f'os.symlink(victim + "/manifest.json", result + "/manifest.json")\n{FINISH}',
    "another name of a file": f'{MANIFEST}os.link(victim + "/manifest.json", result + "/model.bin")\n{FINISH}',
    "a pipe": f'{MANIFEST}os.mkfifo(result + "/model.bin")\n{FINISH}',
    "a name for no key": f'{MANIFEST}write(result + "/a b")\n{FINISH}',
    "a manifest that is none": f'write(result + "/manifest.json", "[]")\n{FINISH}',
    "reports elsewhere": f'{MANIFEST}say("finished", path=result, reports=victim)',
    "a checkpoint elsewhere": 'say("checkpoint", step=1, path=victim)\ntime.sleep(20)',
    "a checkpoint behind a link": f'os.symlink(victim, work + "/checkpoints")\n'
    f'say("checkpoint", step=1, path=work + "/checkpoints/step-1")\n{MANIFEST}{FINISH}',
    "a log that is a link": 'os.unlink(log)\nos.symlink(victim + "/manifest.json", log)\nsys.exit(1)',
    "a log that is a pipe": "os.unlink(log)\nos.mkfifo(log)\nsys.exit(1)",
    "a lie after its last word": f"{MANIFEST}{FINISH}\nprint()",
}


@pytest.fixture
def victim(settings: Settings) -> Path:
    """Another project's folder next to the work folders, which looks like a result."""
    folder = settings.data_dir / "victim"
    (folder / "step-1").mkdir(parents=True)
    for path in (folder / "manifest.json", folder / "step-1/state.json"):
        path.write_text(json.dumps({"secret": MARKER}))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_false_message_fails_the_job_and_reaches_nothing_outside_its_folder(
    settings: Settings,
    sessions: Sessions,
    trainable: str,
    post: Callable[..., str],
    hold: Callable[..., AttemptRunner],
    victim: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = tree(victim)
    found = {}
    for name, lie in LIES.items():
        script = PRELUDE.format(victim=str(victim)) + lie
        monkeypatch.setattr("worker.processes.training.COMMAND", (sys.executable, "-S", "-c", script))
        id = post(dataset_id=trainable)
        run = hold()
        if name == "a line without an end":
            tracemalloc.start()
        run.run()
        if tracemalloc.is_tracing():
            assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
            tracemalloc.stop()
        with transaction(sessions) as session:
            job = session.get_one(Job, id)
            log_tail = session.scalars(select(Attempt.log_tail).where(Attempt.job_id == id)).one()
        found[name] = job.state, job.failure_reason
        assert MARKER not in log_tail, name
        assert MARKER not in str(job.failure_message), name
        assert tree(victim) == before, name
    assert found == dict.fromkeys(LIES, ("failed", "protocol_broken"))
    stored = tree(settings.data_dir / "storage").values()
    assert not [content for content in stored if MARKER.encode() in content]
    with transaction(sessions) as session:
        assert session.scalars(select(Artifact.id)).all() == []
        assert session.scalars(select(Checkpoint.id)).all() == []
    assert list(settings.work_dir.glob("*/*")) == [], "no folder of an attempt is left"


def test_unread_messages_are_limited() -> None:
    messages, message = MessageQueue(), PhaseEntered(phase=JobPhase.training)
    for _ in range(8):
        messages.put(message, MAX_WAITING_BYTES // 8)
    with pytest.raises(ProtocolBroken):
        messages.put(message, 1)
    assert messages.get() is message
    messages.put(message, 1)
    messages.put(None)

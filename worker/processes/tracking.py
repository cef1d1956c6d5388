"""The tracking process as its parent sees it: asked, waited for with a limit, and killed. See `worker.tracking`."""

import os
import sys
import threading
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from app.domain.integration import IntegrationType
from worker.child_process import ChildProcess, make_environment, start_process
from worker.processes.oom_score import let_go_first
from worker.tracking.protocol import Done, Failed, Heard, parse_answer

COMMAND: Final = (sys.executable, "-P", "-m", "worker.tracking")
PASSED_ON: Final = (
    *("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "FAILPOINT", "FAILPOINT_ONCE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
"""Environment the process may see."""
ITS_OWN: Final[dict[IntegrationType, tuple[str, ...]]] = {
    "wandb": ("WANDB_",),
    "mlflow": ("MLFLOW_", "DATABRICKS_"),
    "tensorboard": (),
}
"""Beginnings of what only the tracker's own process sees."""
UNLESS_GIVEN: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "WANDB_ERROR_REPORTING": "false",
}
ANSWER_SECONDS: Final = 60.0
OOM_SCORE_ADJ: Final = "1000"
"""When memory is out, before any training."""


class TrackerFailed(Exception):
    """The tracker took nothing; the message says why."""


class TrackingProcess(ChildProcess):
    """In `folder`, which is its home. What must outlast it is in `kept`."""

    def __init__(self, type: IntegrationType, folder: Path, kept: Path) -> None:
        self._killed = False
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log").open("ab") as log:
            own = environment(type, folder, kept)
            super().__init__(start_process(COMMAND, "start_tracking", env=own, stderr=log, cwd=folder))
        let_go_first(self.pid, OOM_SCORE_ADJ)

    def ask(self, line: Heard) -> Done:
        """TrackerFailed if it does not take the line, or not in time."""
        assert self._process.stdout is not None
        watch = threading.Timer(ANSWER_SECONDS, self.kill)
        watch.start()
        try:
            said = self._process.stdout.readline() if self.tell(line) else b""
        finally:
            watch.cancel()
        try:
            answer = parse_answer.validate_json(said)
        except ValidationError as error:
            why = f"it did not answer within {ANSWER_SECONDS:g} s" if self._killed else "its process died"
            raise TrackerFailed(why) from error
        if isinstance(answer, Failed):
            raise TrackerFailed(answer.why)
        return answer

    def kill(self) -> None:
        """The whole group at once. wandb's second process, in a group of its own, ends with the first."""
        if self._process.returncode is not None:
            return  # Waited for: its number may be another's.
        self._killed = True
        super().kill()

    def end(self) -> None:
        """Nothing of it is left."""
        self.kill()
        self.reap()


def environment(type: IntegrationType, folder: Path, kept: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name.startswith(ITS_OWN[type]) and value}
    # What a run that is not sent writes is the very thing that is wanted; otherwise it is scratch.
    where = kept if own.get("WANDB_MODE") == "offline" else folder
    if type == "wandb" and "WANDB_DIR" not in own:
        where.mkdir(parents=True, exist_ok=True)
        own["WANDB_DIR"] = str(where)
    return UNLESS_GIVEN | make_environment(PASSED_ON, own | {"HOME": str(folder)})

"""Starts, queries and kills a tracking process, with a time limit for each answer. See `worker.tracking`."""

import os
import sys
import threading
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from app.domain.integration import IntegrationType
from worker.child_process import ChildProcess, make_environment, start_process
from worker.processes.oom_score import set_oom_score
from worker.tracking.protocol import Done, TrackingFailed, TrackingRequest, parse_answer

COMMAND: Final = (sys.executable, "-P", "-m", "worker.tracking")
PASSED_ON: Final = (
    *("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "FAILPOINT", "FAILPOINT_ONCE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
"""The process may see these environment variables."""
ITS_OWN: Final[dict[IntegrationType, tuple[str, ...]]] = {
    "wandb": ("WANDB_",),
    "mlflow": ("MLFLOW_", "DATABRICKS_"),
    "tensorboard": (),
}
"""Only this tracker's process sees environment variables with these prefixes."""
UNLESS_GIVEN: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "WANDB_ERROR_REPORTING": "false",
}
ANSWER_SECONDS: Final = 60.0
OOM_SCORE_ADJ: Final = "1000"
"""The kernel kills trackers before any training when memory runs out."""


class TrackerFailed(Exception):
    """Raised when the tracker rejected data. The message says why."""


class TrackingProcess(ChildProcess):
    """Runs a tracker in `folder`, which is also its home. Files that must outlast the process go to `kept`."""

    def __init__(self, type: IntegrationType, folder: Path, kept: Path) -> None:
        self._killed = False
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log").open("ab") as log:
            own = environment(type, folder, kept)
            super().__init__(start_process(COMMAND, "start_tracking", env=own, stderr=log, cwd=folder))
        set_oom_score(self.pid, OOM_SCORE_ADJ)

    def ask(self, request: TrackingRequest) -> Done:
        """Send a request and return the answer. Raises TrackerFailed if the tracker rejects the request or does not
        answer in time."""
        assert self._process.stdout is not None
        watch = threading.Timer(ANSWER_SECONDS, self.kill)
        watch.start()
        try:
            line = self._process.stdout.readline() if self.send(request) else b""
        finally:
            watch.cancel()
        try:
            answer = parse_answer.validate_json(line)
        except ValidationError as error:
            why = f"it did not answer within {ANSWER_SECONDS:g} s" if self._killed else "its process ended unexpectedly"
            raise TrackerFailed(why) from error
        if isinstance(answer, TrackingFailed):
            raise TrackerFailed(answer.why)
        return answer

    def kill(self) -> None:
        """Kill the whole process group. wandb's second process, which is in another group, ends with the first."""
        if self._process.returncode is not None:
            return  # The process was reaped, so its id may belong to another process.
        self._killed = True
        super().kill()

    def end(self) -> None:
        """Kill the process and reap it."""
        self.kill()
        self.reap()


def environment(type: IntegrationType, folder: Path, kept: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name.startswith(ITS_OWN[type]) and value}
    # An offline run must be kept to be sent later; otherwise the files are temporary.
    where = kept if own.get("WANDB_MODE") == "offline" else folder
    if type == "wandb" and "WANDB_DIR" not in own:
        where.mkdir(parents=True, exist_ok=True)
        own["WANDB_DIR"] = str(where)
    return UNLESS_GIVEN | make_environment(PASSED_ON, own | {"HOME": str(folder)})

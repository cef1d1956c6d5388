"""Defines named places in the code where a test makes a process die, stop or fail: `FAILPOINT=after_claim:kill`.

A failpoint precedes and follows every commit, storage write, rename and process start. It does nothing unless the
environment in which the process started names it, and then costs one dictionary lookup.

    FAILPOINT       name:action[@n], several separated by commas. Actions: kill (SIGKILL to itself), stop (SIGSTOP to
                    itself), raise (an OSError), exit (at once, with code 1), sleep=SECONDS. With @n only the n-th time
                    that this process reaches it; without @n, each time.
    FAILPOINT_ONCE  a folder with a file for each failpoint that has fired, across processes: a worker that is
                    restarted with the same environment after its kill continues.

Uses only the standard library, because the training child has failpoints too.
"""

import errno
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

ASKED: Final = re.compile(r"(?P<name>\w+):(?P<action>kill|stop|raise|exit|sleep=\d+(?:\.\d+)?)(?:@(?P<nth>[1-9]\d*))?")


class FailpointRule(NamedTuple):
    """Represents one term of FAILPOINT."""

    words: str
    action: str
    nth: int | None


_rules: dict[str, list[FailpointRule]] = {}
_passed: dict[str, int] = {}
_once: Path | None = None
_lock = threading.Lock()


def reach(name: str) -> None:
    """Continue, unless FAILPOINT requests an action here."""
    if name in _rules:
        _apply_rules(name)


@contextmanager
def around(step: str) -> Iterator[None]:
    """Reach `before_{step}` and, unless the step failed, `after_{step}`."""
    reach(f"before_{step}")
    yield
    reach(f"after_{step}")


def arm(environment: Mapping[str, str]) -> None:
    """Read FAILPOINT and FAILPOINT_ONCE from `environment`. Raise ValueError if they are not valid."""
    global _once
    _rules.clear()
    _passed.clear()
    for words in filter(None, environment.get("FAILPOINT", "").split(",")):
        match = ASKED.fullmatch(words.strip())
        if match is None:
            raise ValueError(f"FAILPOINT: {words!r} is not name:action[@n], see app/failpoints.py")
        nth = int(match["nth"]) if match["nth"] else None
        _rules.setdefault(match["name"], []).append(FailpointRule(words.strip(), match["action"], nth))
    folder = environment.get("FAILPOINT_ONCE")
    _once = Path(folder) if folder else None


def _apply_rules(name: str) -> None:
    with _lock:
        _passed[name] = passed = _passed.get(name, 0) + 1
    for rule in _rules[name]:
        if rule.nth in (None, passed) and _is_first(rule):
            print(f"failpoint {rule.words} in process {os.getpid()}", file=sys.stderr, flush=True)
            _run_action(name, rule.action)


def _is_first(rule: FailpointRule) -> bool:
    if _once is None:
        return True
    try:
        with (_once / rule.words).open("x") as mark:
            mark.write(f"{os.getpid()} {time.time()}\n")
    except FileExistsError:
        return False
    return True


def _run_action(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        # Sent to this thread, so that this thread stops here; the others stop with it.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    elif action == "raise":
        raise OSError(errno.EIO, f"failpoint {name}")
    elif action == "exit":
        os._exit(1)
    else:
        time.sleep(float(action.removeprefix("sleep=")))


arm(os.environ)

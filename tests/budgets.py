"""Limits how long a file of tests may take, and sorts the files of `make test`: the longest run first.

A run of more than one file ends with a list of the slowest files and tests. On a quiet machine of two cores, a file may
take 20 s, or what BUDGETS gives it. A file that takes three times as long fails the run; on a busier machine the limit
is higher. The time of a fixture of the whole run, such as a server, counts for no file.
"""

import os
import time
from collections import Counter
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import pytest
from xdist.scheduler import LoadFileScheduling

FILE_SECONDS = 20.0
ALLOWANCE = 3.0
"""Allows for machines that are slower than the one on which these seconds were measured."""
QUIET_LOAD = 2.0
"""Processes per core that wait or run while `make test` has the machine to itself."""
NUM_SHOWN = 20
MIN_SHOWN_SECONDS = 1.0
SHARED_STACK = "tests/acceptance/"
"""The tests of this folder share one stack and run in one process, except OWN_STACK."""
OWN_STACK = ("full_disk", "sturdiness", "survival", "two_machines")


class Budget(NamedTuple):
    seconds: float
    reason: str


BUDGETS: Mapping[str, Budget] = {
    "tests/chaos/test_chaos.py": Budget(190, "three runs of a stack, each with faults until its jobs end"),
    "tests/chaos/test_rows.py": Budget(130, "an outage of twenty leases, and jobs that take longer"),
    "tests/chaos/test_failpoints.py": Budget(90, "a stack, and kills at the steps of complete jobs"),
    "tests/chaos/test_failpoints_at_start.py": Budget(35, "four starts of a stack, three of them killed"),
    "tests/chaos/test_kill_training.py": Budget(30, "a training that starts five times"),
    "tests/acceptance/openai/test_async_life.py": Budget(50, "two trainings, one of them paused"),
    "tests/acceptance/openai/test_training_on.py": Budget(40, "three trainings, one after another"),
    "tests/acceptance/test_command_line.py": Budget(90, "a process for each of a hundred commands, and trainings"),
    "tests/acceptance/test_faces.py": Budget(60, "a few of Schemathesis' requests to every route"),
    "tests/acceptance/test_main_job.py": Budget(110, "eight trainings, one after another"),
    "tests/acceptance/test_pause.py": Budget(100, "seven trainings, most of them of hundreds of steps"),
    "tests/acceptance/test_sturdiness.py": Budget(
        150, "six trainings, and one that hangs for longer than a child's imports take"
    ),
    "tests/acceptance/test_survival.py": Budget(110, "three starts of a stack, and leases that lapse"),
    "tests/acceptance/test_two_machines.py": Budget(50, "a stack, a second worker, and a training that moves to it"),
    "tests/integration/embedded/test_whole_stack.py": Budget(50, "starts of the stack by the operator's commands"),
    "tests/integration/models/test_registry.py": Budget(30, "a process for each command"),
    "tests/integration/dataset_checks/test_previews.py": Budget(40, "processes that load a tokenizer"),
    "tests/page/test_create.py": Budget(40, "a form in a browser, with the server's checks as one types"),
    "tests/page/test_admin_views.py": Budget(40, "dialogs in a browser, and a delivery of a webhook"),
    "tests/page/test_views.py": Budget(260, "every view in five windows, each read by axe and passed by keys"),
    "tests/page/test_journeys.py": Budget(110, "a training followed in a browser, a killed API, and seven tabs"),
    "tests/page/test_datasets.py": Budget(70, "uploads that pause, reload and meet a busy server, in a browser"),
    "tests/page/test_tools.py": Budget(30, "pages of every look, and a job with its whole curve"),
    "tests/unit/examples/test_base_model.py": Budget(40, "the conversion of a real model of 270 million weights"),
    "tests/unit/training/test_cuda_dry_run.py": Budget(45, "82 micro-batches on fake tensors, 0.4 s each"),
    "tests/unit/training/test_memory.py": Budget(60, "two processes that run out of real memory"),
    "tests/unit/training/test_methods.py": Budget(40, "a training and a resumption of every method"),
    "tests/unit/training/test_parity.py": Budget(35, "every family and method against the libraries' own layers"),
    "tests/unit/training/test_process.py": Budget(50, "a training process for each moment at which its parent may die"),
}


def scope_of(nodeid: str) -> str:
    """Return the name of the tests that run in one process, one after another."""
    file = nodeid.partition("::")[0]
    own = any(file == f"{SHARED_STACK}test_{name}.py" for name in OWN_STACK)
    return SHARED_STACK if file.startswith(SHARED_STACK) and not own else file


def slowness() -> float:
    """Return the load in proportion to a quiet machine's, at least 1."""
    return max(1.0, os.getloadavg()[0] / (QUIET_LOAD * (os.cpu_count() or 1)))


class Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


class Budgets:
    """Pytest plugin that sorts, times and limits the files of tests."""

    def __init__(self, budgets: Mapping[str, Budget] = BUDGETS, file_seconds: float = FILE_SECONDS) -> None:
        self._budgets, self._file_seconds = budgets, file_seconds
        self._shared = 0.0
        """Seconds of the current test's setup spent on fixtures of the whole run."""
        self._files: Counter[str] = Counter()
        self._tests: Counter[str] = Counter()
        self._slowness: dict[str, float] = {}
        self.over: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        files = {item.nodeid.partition("::")[0] for item in items}
        seconds: Counter[str] = Counter()
        for file in files & self._budgets.keys():
            seconds[scope_of(file)] += self._budgets[file].seconds
        items.sort(key=lambda item: -seconds[scope_of(item.nodeid)])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Scheduling | None:
        return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        began = time.monotonic()
        try:
            return (yield)
        finally:
            if fixturedef.scope == "session":
                self._shared += time.monotonic() - began

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        shared, self._shared = self._shared, 0.0
        report.own_seconds = max(report.duration - shared, 0.0)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds in the process that reports the run, whichever process ran the test."""
        file = report.nodeid.partition("::")[0]
        self._files[file] += report.own_seconds
        self._tests[report.nodeid] += report.own_seconds
        self._slowness[file] = max(self._slowness.get(file, 1.0), slowness())

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.over = [file for file in self._files if self._files[file] > self._limit(file)]
        if self.over and session.exitstatus == pytest.ExitCode.OK and not hasattr(session.config, "workerinput"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _limit(self, file: str) -> float:
        return ALLOWANCE * self._slowness[file] * self._seconds(file)

    def _seconds(self, file: str) -> float:
        return self._budgets[file].seconds if file in self._budgets else self._file_seconds

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if len(self._files) > 1:
            for what, seconds in (("files", self._files), ("tests", self._tests)):
                terminalreporter.section(f"the {NUM_SHOWN} slowest {what}")
                for name, taken in seconds.most_common(NUM_SHOWN):
                    if taken >= MIN_SHOWN_SECONDS:
                        terminalreporter.line(f"{taken:7.1f} s  {name}{self._remark(name, taken)}")
        for file in self.over:
            terminalreporter.line(
                f"{file} took {self._files[file]:.0f} s and may take {self._limit(file):.0f} s here: make it quicker, "
                "or give it a budget and a reason in tests/budgets.py",
                red=True,
            )

    def _remark(self, name: str, taken: float) -> str:
        if name not in self._files or taken <= self._seconds(name):
            return ""
        return f" (over its {self._seconds(name):.0f} s)"

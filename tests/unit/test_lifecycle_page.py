import re
from pathlib import Path

from app.domain.jobs.state import FailureReason, JobPhase, JobState
from app.domain.jobs.state_diagram import diagram

PAGE = (Path(__file__).parents[2] / "docs/lifecycle.md").read_text()


def rows(heading: str) -> list[str]:
    """First cells of the table under a header row."""
    table = PAGE.split(f"| {heading} |")[1].split("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.M)


def test_diagram_is_the_tables() -> None:
    (shown,) = re.findall(r"```mermaid\n(.*?)\n```", PAGE, re.S)
    assert shown == diagram(), "put the output of `python -m app.domain.jobs.state_diagram` into docs/lifecycle.md"


def test_every_state_is_listed() -> None:
    assert rows("state") == list(JobState)


def test_every_failure_reason_is_listed() -> None:
    assert rows("reason") == list(FailureReason)


def test_every_phase_is_listed() -> None:
    assert all(f"`{phase}`" in PAGE.split("## Phases")[1] for phase in JobPhase)

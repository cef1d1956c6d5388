"""`python -m app.domain.jobs.state_diagram` prints the state machine as a Mermaid diagram for `docs/lifecycle.md`."""

from app.domain.jobs.state import FINAL, TRANSITIONS, JobState


def diagram() -> str:
    arrows = [(state, onward) for state in JobState for onward in JobState if onward in TRANSITIONS[state]]
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.queued}"]
    lines += [f"    {state} --> {onward}" for state, onward in arrows]
    lines += [f"    {state} --> [*]" for state in JobState if state in FINAL]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())

from app.domain.jobs.state import FINAL, HELD, LAPSE, TRANSITIONS, JobState

DESIGNED = {
    "queued": "running paused cancelled failed",
    "running": "queued pausing cancelling succeeded failed",
    "pausing": "paused queued cancelling succeeded failed",
    "paused": "queued cancelled",
    "cancelling": "cancelled",
    "succeeded": "",
    "failed": "",
    "cancelled": "",
}


def test_the_transitions_are_those_of_the_design() -> None:
    assert {str(state): {str(target) for target in TRANSITIONS[state]} for state in TRANSITIONS} == {
        state: set(target.split()) for state, target in DESIGNED.items()
    }


def test_final_states_have_no_transitions() -> None:
    assert {"succeeded", "failed", "cancelled"} == FINAL


def test_held_states_lapse_into_a_state_without_a_holder() -> None:
    assert LAPSE.keys() == HELD
    for state, target in LAPSE.items():
        assert target in TRANSITIONS[state]
        assert target not in HELD


def test_every_state_can_be_reached_from_queued() -> None:
    reached = {JobState.queued}
    while new := {target for state in reached for target in TRANSITIONS[state]} - reached:
        reached |= new
    assert reached == set(JobState)

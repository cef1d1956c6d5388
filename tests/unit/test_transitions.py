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


def test_the_table_is_the_design() -> None:
    assert {str(state): {str(onward) for onward in TRANSITIONS[state]} for state in TRANSITIONS} == {
        state: set(onward.split()) for state, onward in DESIGNED.items()
    }


def test_final_states_are_those_without_a_way_on() -> None:
    assert {"succeeded", "failed", "cancelled"} == FINAL


def test_held_states_lapse_into_one_that_nobody_holds() -> None:
    assert LAPSE.keys() == HELD
    for state, onward in LAPSE.items():
        assert onward in TRANSITIONS[state]
        assert onward not in HELD


def test_every_state_is_reached_from_queued() -> None:
    reached = {JobState.queued}
    while new := {onward for state in reached for onward in TRANSITIONS[state]} - reached:
        reached |= new
    assert reached == set(JobState)

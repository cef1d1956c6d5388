"""Builds the database's guard of the state machine from the table in `app.domain.jobs.state`."""

from app.domain.jobs.state import TRANSITIONS


def job_transition_statements() -> tuple[str, str]:
    """Return SQL that creates or replaces the function and the trigger. A change of TRANSITIONS needs a migration with
    it."""
    allowed = ", ".join(f"('{old}', '{new}')" for old, onward in TRANSITIONS.items() for new in sorted(onward))
    function = f"""
        CREATE OR REPLACE FUNCTION refuse_unknown_job_transition() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.state, NEW.state) NOT IN (VALUES {allowed}) THEN
                RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.state, NEW.state
                    USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
    """
    trigger = """
        CREATE OR REPLACE TRIGGER refuse_unknown_job_transition BEFORE UPDATE OF state ON jobs
        FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
        EXECUTE FUNCTION refuse_unknown_job_transition()
    """
    return function, trigger

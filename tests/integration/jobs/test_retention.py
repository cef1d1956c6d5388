"""What the collector removes, when, and what it keeps: rows in PostgreSQL, bytes in a folder."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select, text

from app.db.base import Base
from app.db.session import Sessions, transaction
from app.db.tables import Attempt, Checkpoint, DeletedObject
from app.dispatcher import Dispatcher
from app.domain.hardware import machine_fingerprint
from app.domain.ids import new_id
from app.jobs.attempts.service import AttemptService
from app.jobs.queue.repository import Claim
from app.jobs.queue.service import QueueService
from app.jobs.service import JobService
from app.retention.collector import Collector
from app.retention.repository import KEEPERS, RetentionRepository
from app.settings import Settings
from app.storage import FAILURES, Storage
from tests.integration.jobs.retention_world import DAY, HOUR, World

Post = Callable[..., str]
Take = Callable[..., Claim]


@pytest.fixture
def world(settings: Settings, sessions: Sessions, project_id: str) -> World:
    return World(settings, sessions, project_id)


def test_an_attempts_orphans_are_removed_a_day_after_its_end(world: World, post: Post, claim: Take) -> None:
    post()
    held = claim()
    named = world.save_checkpoint(held, 1)
    left = world.store(held, "checkpoints/2/w.bin")
    world.pass_time(3 * DAY)
    world.collect()
    assert world.stored() == {*named, left}, "the attempt is running"
    world.release(held)
    world.collect()
    world.pass_time(DAY - HOUR)
    world.collect()
    assert world.stored() == {*named, left}
    world.pass_time(2 * HOUR)
    world.collect()
    assert world.stored() == set(named)


def test_orphans_younger_than_a_day_are_kept(world: World, post: Post, claim: Take) -> None:
    """A worker that lost its attempt may continue to store bytes for a while."""
    post()
    held = claim()
    old = world.store(held, "checkpoints/1/w.bin")
    world.release(held)
    world.pass_time(2 * DAY)
    young = world.store(held, "checkpoints/2/w.bin")
    world.collect()
    assert world.stored() == {young}, old
    world.pass_time(DAY + HOUR)
    world.collect()
    assert world.stored() == set()


def test_each_attempt_is_visited_once(world: World, sessions: Sessions, post: Post, claim: Take) -> None:
    id = post()
    for _ in range(3):
        world.release(claim())
    world.pass_time(2 * DAY)
    world.collect()
    with transaction(sessions) as session:
        assert all(session.scalars(select(Attempt.orphans_collected_at).where(Attempt.job_id == id)))
        assert RetentionRepository(session).attempts_over(0, 10) == []


def test_the_bytes_of_an_attempt_that_may_come_back_are_kept(
    world: World, sessions: Sessions, post: Post, claim: Take
) -> None:
    """Its worker is disconnected for days, and no other claims the job. Then it saves a checkpoint stored before."""
    post()
    held = claim()
    files = world.store_checkpoint(held, 7)
    world.lose(held)
    world.pass_time(5 * DAY)
    world.collect()
    with transaction(sessions) as session:
        QueueService(session).renew(held, 60)
        AttemptService(session, held).save_checkpoint(7, files, "1" * 64, machine_fingerprint({}))
    world.pass_time(5 * DAY)
    world.collect()
    assert world.stored() == {file.key for file in files}


def test_a_lost_attempt_is_over_once_another_follows(world: World, post: Post, claim: Take) -> None:
    post()
    first = claim()
    left = world.store_checkpoint(first, 7)
    world.lose(first)
    second = claim()
    kept = world.save_checkpoint(second, 1)
    world.pass_time(DAY + HOUR)
    world.collect()
    assert world.stored() == set(kept)
    assert not world.stored() & {file.key for file in left}


def test_the_orphans_of_a_deleted_job_are_found_and_removed(
    world: World, sessions: Sessions, project_id: str, post: Post, claim: Take
) -> None:
    id = post()
    held = claim()
    world.save_checkpoint(held, 1)
    left = world.store(held, "result/adapter_model.bin")
    with transaction(sessions) as session:
        JobService(session).cancel(project_id, id)
        AttemptService(session, held).release()
        JobService(session).delete(project_id, id)
    world.collect()
    assert world.stored() == {left}, "the bytes that rows named went with the job; the rest is too young"
    world.pass_time(DAY + HOUR)
    world.collect()
    world.pass_time(2 * HOUR)
    world.collect()
    assert world.stored() == set()


def test_checkpoints_are_kept_for_a_week_after_the_end_of_their_job(
    world: World, sessions: Sessions, project_id: str, post: Post, claim: Take
) -> None:
    waiting, ended = post(priority=1), post()
    kept = world.save_checkpoint(held := claim(), 5)
    world.release(held)
    with transaction(sessions) as session:
        JobService(session).jobs.get(project_id, waiting).state = "paused"
    last = world.save_checkpoint(held := claim(), 5)
    world.succeed(held)
    world.pass_time(6 * DAY)
    world.collect()
    assert {*kept, *last} < world.stored()
    world.pass_time(2 * DAY)
    world.collect()
    assert not world.stored() & set(last)
    assert set(kept) < world.stored() < world.named()
    with transaction(sessions) as session:
        assert session.scalars(select(Checkpoint.job_id).distinct()).all() == [waiting]
        assert JobService(session).get(project_id, ended).state == "succeeded"


def test_the_bytes_of_another_databases_project_are_kept(world: World, storage: Storage) -> None:
    """A dispatcher that uses the wrong database finds a storage full of objects that it does not know."""
    stranger = new_id("proj")
    keys = {world.put(f"{stranger}/datasets/{new_id('file')}"), world.put(f"{stranger}/jobs/{new_id('ftjob')}/1/a")}
    foreign = {world.put(f"{world.project_id}/jobs/not-ours/1/a")}
    for _ in range(3):
        world.pass_time(3 * DAY)
        world.collect()
    assert world.stored() == keys | foreign


def test_a_removal_whose_commit_fails_is_repeated(
    world: World, sessions: Sessions, settings: Settings, post: Post, claim: Take
) -> None:
    post()
    held = claim()
    left = world.store(held, "checkpoints/1/w.bin")
    world.release(held)
    world.pass_time(2 * DAY)
    with transaction(sessions) as session:
        session.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'refused'; END $$"
            )
        )
        session.execute(
            text(
                "CREATE CONSTRAINT TRIGGER refuse AFTER DELETE ON deleted_objects DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    dispatcher = Dispatcher(settings, sessions)
    dispatcher.retain()
    with pytest.raises(Exception, match="refused"):
        dispatcher.collect()
    assert left not in world.stored()
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject.storage_key)).all() == [left]
        session.execute(text("DROP TRIGGER refuse ON deleted_objects"))
    dispatcher.collect()
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject.storage_key)).all() == []


def test_an_object_that_cannot_be_removed_delays_no_other(
    world: World, sessions: Sessions, storage: Storage, project_id: str
) -> None:
    """There is a folder at the object's path."""
    stuck, other = f"{project_id}/jobs/x/1/stuck", world.put(f"{project_id}/jobs/x/1/other")
    inside = world.put(f"{stuck}/inside")
    with pytest.raises(FAILURES):
        storage.delete(stuck)
    with transaction(sessions) as session:
        now = RetentionRepository(session).now()
        RetentionRepository(session).mark_deleted(project_id, [(stuck, now), (other, now)])
    world.collector.collect()
    world.collector.collect()
    assert world.stored() == {inside}
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject.storage_key)).all() == [stuck]
    storage.delete(inside)
    (storage.root / stuck).rmdir()  # type: ignore[operator]
    world.pass_time(2 * HOUR)
    world.collector.collect()
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject.storage_key)).all() == []


def test_an_object_marked_as_deleted_is_kept_if_a_row_names_it(
    world: World, sessions: Sessions, project_id: str, post: Post, claim: Take
) -> None:
    """The check directly before a removal decides, whatever was marked earlier."""
    post()
    named = world.save_checkpoint(claim(), 1)
    with transaction(sessions) as session:
        retention = RetentionRepository(session)
        retention.mark_deleted(project_id, [(key, retention.now()) for key in named])
    world.collector.collect()
    assert world.stored() == set(named)
    with transaction(sessions) as session:
        assert session.scalars(select(DeletedObject)).all() == []


def test_several_dispatchers_remove_no_more_than_one(
    world: World, settings: Settings, sessions: Sessions, post: Post, claim: Take
) -> None:
    for _ in range(6):
        post()
        held = claim()
        world.save_checkpoint(held, 1)
        for number in range(30):
            world.store(held, f"checkpoints/2/{number}")
        world.succeed(held)
    kept = world.named() & world.stored()
    world.pass_time(2 * DAY)
    together, failures = threading.Barrier(4), []

    def work() -> None:
        collector = Collector(settings, sessions, Storage(settings.storage))
        together.wait()
        try:
            for _ in range(3):
                collector.retain()
                collector.collect()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert world.stored() == kept


def test_the_last_check_covers_every_column_that_names_bytes() -> None:
    """The collector must know each column that names stored bytes, or it treats them as orphans."""
    naming = {
        column for table in Base.metadata.tables.values() for column in table.columns if column.name.endswith("_key")
    }
    assert {(column.table.name, column.name) for column in naming} == {
        (column.table.name, column.name) for column in KEEPERS
    } | {("deleted_objects", "storage_key")}

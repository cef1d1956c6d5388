"""Processes are killed with SIGKILL at every failpoint. Each job must end once, as expected, and its history must be
consistent.

Processes are killed before and after each step, in one job where possible. `TUNEWRIGHT_FAILPOINTS` is `all` in
`make chaos`, or the number of steps to choose at random; `TUNEWRIGHT_FAILPOINT_SEED` repeats a choice. By default two
steps are tested.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis

from app.db.session import connect, open_sessions, transaction
from app.domain.caller import ADMIN
from app.keys.service import KeyService
from app.projects.lookup import find_or_create_project
from tests.chaos.dataset_check_cases import (
    dataset_check,
    give_back_dataset_check,
    post_overlap,
    post_preview,
    renew_dataset_check,
)
from tests.chaos.harness import Harness
from tests.chaos.key_cases import post_key, revoke_key
from tests.chaos.model_cases import (
    collect_models,
    fail_model,
    fetch_model,
    give_back_model,
    keep_model_file,
    post_model,
)
from tests.chaos.openai_cases import (
    create_fine_tuning_job,
    create_upload,
    delete_file,
    delete_model,
    pause_fine_tuning_job,
)
from tests.chaos.project_cases import create_project, erase_project, post_project, report_work_folders
from tests.chaos.restarting_stack import RestartingStack
from tests.chaos.server_cases import (
    add_model,
    cancel_job,
    clean_dataset,
    collect,
    delete_adapter,
    delete_dataset,
    delete_job,
    forget,
    limit_project,
    note_key_use,
    pause_job,
    post_job,
    recover_lost_work,
    relay,
    remind,
    retain,
    retry_job,
    upload,
    watch,
)
from tests.chaos.session_cases import post_session
from tests.chaos.upload_cases import cancel_upload, complete_upload, expire_uploads, join, part, post_upload
from tests.chaos.webhook_cases import deliver, forget_deliveries, post_webhook
from tests.chaos.worker_cases import (
    claim,
    clean,
    fail,
    give_back_inspection,
    give_up_checkpoint,
    in_child,
    in_worker,
    inspection,
    read_adapter,
    record_late,
    release,
    renew_inspection,
    request_orphan_collection,
    sign_of_life,
    track,
)
from tests.fixtures.databases import own_database
from tests.fixtures.failpoints import failpoints, request_steps, sources
from tests.fixtures.tiny_models import build_tiny_model, write_rows

CHOICE = os.environ.get("TUNEWRIGHT_FAILPOINTS", "few")
SEED = int(os.environ.get("TUNEWRIGHT_FAILPOINT_SEED", str(time.time_ns() % 10**6)))

Case = Callable[[Harness, str], None]

CASES: dict[str, Case] = {
    **dict.fromkeys(("enter_phase", "read_inputs", "start_training", "plan", "start", "append_event"), in_worker),
    **dict.fromkeys(("record", "heartbeat", "store_file", "save_checkpoint"), in_worker),
    **dict.fromkeys(("open_spool", "keep_log", "read_state", "read_curves", "publish"), in_worker),
    **dict.fromkeys(("start_tracking", "feed_tracker"), track),
    **dict.fromkeys(("start_tokenizing", "keep_nf4", "keep_parity", "name_checkpoint"), in_child),
    **dict.fromkeys(("complete_result", "complete_reports"), in_child),
    **{case.__name__: case for case in (fail, release, request_orphan_collection, read_adapter, give_up_checkpoint)},
    **{case.__name__: case for case in (claim, record_late, sign_of_life)},
    **dict.fromkeys(("claim_inspection", "start_inspection", "conclude_inspection"), inspection),
    **dict.fromkeys(("read_source", "keep_made"), clean),
    **{case.__name__: case for case in (renew_inspection, give_back_inspection)},
    **dict.fromkeys(("claim_dataset_check", "read_dataset_check", "conclude_dataset_check"), dataset_check),
    **{case.__name__: case for case in (renew_dataset_check, give_back_dataset_check, post_preview, post_overlap)},
    **dict.fromkeys(("upload_dataset", "store_object", "name_object"), upload),
    **{case.__name__: case for case in (post_upload, complete_upload, cancel_upload, expire_uploads)},
    **dict.fromkeys(("check_room", "post_part"), part),
    **dict.fromkeys(("claim_join", "join_parts", "conclude_join"), join),
    **dict.fromkeys(("claim_delivery", "send_delivery", "conclude_delivery"), deliver),
    **{case.__name__: case for case in (post_webhook, forget_deliveries)},
    **{case.__name__: case for case in (post_model, fail_model, give_back_model, keep_model_file)},
    **dict.fromkeys(("claim_model", "name_model_file", "renew_model", "conclude_model"), fetch_model),
    **dict.fromkeys(("link_model_file", "store_model_file"), fetch_model),
    **dict.fromkeys(("collect_models", "search_models"), collect_models),
    **{case.__name__: case for case in (post_job, pause_job, retry_job, cancel_job, note_key_use)},
    **{case.__name__: case for case in (delete_job, clean_dataset, delete_dataset, delete_adapter)},
    **{case.__name__: case for case in (create_fine_tuning_job, pause_fine_tuning_job, create_upload)},
    **{case.__name__: case for case in (delete_file, delete_model)},
    "follow": watch,
    **{case.__name__: case for case in (relay, remind, recover_lost_work)},
    **dict.fromkeys(("collect", "delete_object"), collect),
    **dict.fromkeys(("expire_datasets", "let_go_of_checkpoints", "find_ended_attempts", "visit_attempt"), retain),
    **dict.fromkeys(("search", "unknown_jobs", "suspect", "tidy_storage"), retain),
    **{case.__name__: case for case in (forget, limit_project, add_model)},
    **{case.__name__: case for case in (create_project, post_project, report_work_folders)},
    **{case.__name__: case for case in (post_key, revoke_key, post_session)},
    **dict.fromkeys(("cancel_project_job", "take_inventory", "erase_rows"), erase_project),
    **dict.fromkeys(("delete_project", "finish_deletion"), erase_project),
}


def chosen(places: Sequence[str], few: Sequence[str]) -> list[str]:
    """Return all failpoints, a number of them chosen by the seed, or the `few` of every run."""
    if CHOICE == "all":
        return list(places)
    return sorted(random.Random(SEED).sample(places, int(CHOICE))) if CHOICE.isdecimal() else list(few)


CHOSEN = chosen(list(CASES), ("claim", "post_job"))


@pytest.fixture(scope="module")
def harness(
    migrated_url: str, redis_server: str, server_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harness]:
    print(f"TUNEWRIGHT_FAILPOINT_SEED={SEED}")
    folder = tmp_path_factory.mktemp("failpoints")
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    with own_database(migrated_url) as url:
        engine = connect(url)
        sessions = open_sessions(engine)
        with transaction(sessions) as session:
            key = KeyService(session).create(find_or_create_project(session, "default"), "test", ADMIN)
        with RestartingStack(folder / "data", url, redis_server, key) as stack, stack.client() as client:
            harness = Harness(stack, client, sessions, write_rows(folder / "rows.jsonl", num_rows=8))
            add = ("-m", "app.models", "add", "tiny", "--path", str(build_tiny_model(stack.folder / "tiny")))
            assert harness.run(*add) == 0
            yield harness
        engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("step", CHOSEN)
def test_a_kill_before_and_after(harness: Harness, step: str) -> None:
    CASES[step](harness, step)


ELSEWHERE = {
    "only reads, so a kill leaves nothing incomplete": {
        "find_upload",
        "readyz",
        "find_model",
        "show_model",
        "show_registry",
        "show_projects",
        "show_keys",
        "export_metrics",
        *("find_project", "follow_deletion", "find_deletions", "find_project_work", "find_project_leases"),
        *("find_project_jobs", "find_deleted_projects"),
    },
    "killed at the start, by test_failpoints_at_start": {
        *("create_cluster", "keep_cluster", "keep_programs", "create_role", "create_database", "ask_redis_version"),
        *("start_process", "rotate_log", "write_private", "migrate", "ensure_first_project", "create_key"),
    },
    "needs a machine without the server's user": {"create_user"},
    "needs a GPU": {"ask_gpu"},
    "the same write as remove_model": {"delete_base_model"},
    "needs a lack of memory": {"replan"},
    "killed along with add_model and with pause_job": {"change_model", "remove_model", "resume_job"},
    "killed along with post_model": {"delete_base_model"},
    "killed along with limit_project": {"allow_labels"},
    "killed along with pause_fine_tuning_job": {"resume_fine_tuning_job", "cancel_fine_tuning_job"},
    "killed along with create_project": {"request_project_deletion"},
    "killed along with post_project": {"change_project", "remove_project"},
    "killed along with post_key": {"replace_key", "withdraw_key"},
    "killed along with revoke_key": {"rotate_key"},
    "killed along with post_session": {"delete_session"},
    "killed along with post_webhook": {"change_webhook", "rotate_webhook", "delete_webhook", "send_test", "redeliver"},
    "a heartbeat or another write may come first": {"take_up_again"},
}


def test_no_failpoint_is_forgotten() -> None:
    """Each new failpoint needs a case, or a reason in `ELSEWHERE`. GET routes only read and are left out."""
    steps = {name.removeprefix("before_").removeprefix("after_") for name in failpoints()}
    readings = {step for source in sources("app") for step, method in request_steps(source) if method == "get"}
    assert steps - readings == CASES.keys() | set().union(*ELSEWHERE.values())

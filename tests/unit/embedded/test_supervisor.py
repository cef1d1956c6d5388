from pathlib import Path

from app.local.child import LOG_BYTES, rotated
from app.local.stack import listen, local_url
from app.local.supervisor import STEADY_SECONDS, Restarts


def test_a_child_that_keeps_dying_waits_longer_up_to_thirty_seconds() -> None:
    restarts = Restarts()
    assert [restarts.note_death(0.1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_child_that_ran_for_long_restarts_soon() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.note_death(0.1)
    assert restarts.note_death(STEADY_SECONDS + 1) == 1


def test_a_large_log_is_rotated_once(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_bytes(b"x" * (LOG_BYTES + 1))
    (tmp_path / "api.log.1").write_text("older")
    assert rotated(log) == log
    assert not log.exists()
    assert (tmp_path / "api.log.1").stat().st_size == LOG_BYTES + 1
    log.write_text("small")
    assert rotated(log).read_text() == "small"


def test_the_printed_address_reaches_a_server_that_listens_on_all() -> None:
    everywhere = "0.0.0.0"  # noqa: S104
    with listen(everywhere, 0) as listener:
        assert local_url(everywhere, listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"

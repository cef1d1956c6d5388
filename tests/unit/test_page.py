import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cursor import Cursor
from app.domain.ids import is_id, new_id
from app.errors import InvalidCursor

instants = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)).map(
    lambda instant: instant.replace(tzinfo=UTC)
)


@given(instants, st.just("ftjob").map(lambda _: new_id("ftjob")))
def test_a_cursor_survives_the_round_trip_to_the_client(created_at: datetime, id: str) -> None:
    text = Cursor(created_at, id).encode()
    assert Cursor.decode(text) == Cursor(created_at, id)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_"), "a cursor must need no quoting in a URL"


def test_a_cursor_is_exact_to_the_microsecond() -> None:
    instant = datetime(2026, 1, 5, 10, 12, 13, 141593, tzinfo=UTC)
    assert Cursor.decode(Cursor(instant, new_id("file")).encode()).created_at - instant == timedelta()


@given(st.text(max_size=200))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = Cursor.decode(text)
    except InvalidCursor:
        return
    assert Cursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize("text", ["", "!", "å", "MTIz", "LmZpbGUtMA", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkuYQ", "AA=="])
def test_a_malformed_cursor_is_refused(text: str) -> None:
    """Covers no text, not base64, not ASCII, no id, no instant, an instant past the calendar, and binary."""
    with pytest.raises(InvalidCursor):
        Cursor.decode(text)


def test_an_id_begins_with_its_noun() -> None:
    id = new_id("file")
    assert is_id(id, "file")
    assert not is_id(id, "ftjob")
    assert not is_id(id + "\n", "file")
    assert not is_id(id.upper(), "file")
    assert new_id("file") != id

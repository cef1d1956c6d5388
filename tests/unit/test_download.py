from email.message import Message

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import RangeNotSatisfiable
from app.web.download import content_disposition, parse_range

SIZES = st.integers(min_value=0, max_value=2**40)


@given(st.integers(0, 2**41), st.integers(0, 2**41), SIZES)
def test_a_range_from_the_first_to_the_last_byte(first: int, last: int, size: int) -> None:
    header = f"bytes={first}-{last}"
    if last < first:
        assert parse_range(header, size) is None
    elif first >= size:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header, size)
    else:
        assert parse_range(header, size) == (first, min(last, size - 1) + 1)


@given(st.integers(0, 2**41), SIZES)
def test_a_range_from_a_byte_to_the_end(first: int, size: int) -> None:
    if first >= size:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(f"bytes={first}-", size)
    else:
        assert parse_range(f"bytes={first}-", size) == (first, size)


@given(st.integers(0, 2**41), SIZES)
def test_a_range_of_the_last_bytes(count: int, size: int) -> None:
    if count == 0 or size == 0:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(f"bytes=-{count}", size)
    else:
        assert parse_range(f"bytes=-{count}", size) == (max(size - count, 0), size)


@given(st.text(max_size=60) | st.from_regex(r"bytes=[0-9, -]*", fullmatch=True), SIZES)
@example("bytes=-", 10)
@example("bytes=0-0,2-3", 10)
@example("items=0-1", 10)
@example("bytes=" + "9" * 30 + "-", 10)
@example("bytes=٣-٤", 10)
def test_any_header_is_a_range_within_the_bytes_or_none(header: str, size: int) -> None:
    try:
        span = parse_range(header, size)
    except RangeNotSatisfiable:
        return
    if span is not None:
        start, end = span
        assert 0 <= start < end <= size


@pytest.mark.parametrize("header", ["bytes=0-0,2-3", "items=0-1", "bytes=-", "bytes=1-0", "bytes 0-1", ""])
def test_other_headers_are_ignored(header: str) -> None:
    assert parse_range(header, 10) is None


@given(st.text(min_size=1, max_size=80))
@example('a"; filename="b')
@example("../../etc/passwd")
@example("a\r\nSet-Cookie: x")
@example("Ärger 100%.jsonl")
def test_file_names_cannot_break_out_of_the_header(filename: str) -> None:
    header = content_disposition(filename.encode("utf-8", "replace").decode())
    assert header.isascii()
    assert header.isprintable()
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    keys = [key for key, _ in message.get_params(header="Content-Disposition") or []]
    assert keys == ["attachment", "filename", "filename"] or keys == ["attachment", "filename", "filename*"]
    plain = header.split('filename="')[1].split('"')[0]
    assert not set('/\\"%') & set(plain)


def test_a_plain_name_is_unchanged() -> None:
    assert content_disposition("train 1.jsonl") == (
        "attachment; filename=\"train 1.jsonl\"; filename*=UTF-8''train%201.jsonl"
    )

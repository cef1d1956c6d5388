"""Checks the push parser of uploads without a server: forms with anything but one file, and file names."""

import pytest

from app.domain.file_name import clean_filename, is_unsafe_filename
from app.errors import InvalidMultipart
from app.web.bodies.multipart import FileForm

BOUNDARY = "a-boundary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
END = f"--{BOUNDARY}--\r\n"


def part(header: str, data: str = "x") -> str:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {header}\r\n\r\n{data}\r\n"


def feed(body: str, step: int = 10**6) -> tuple[FileForm, bytes]:
    form, raw = FileForm(CONTENT_TYPE), body.encode()
    return form, b"".join(form.feed(raw[at : at + step]) for at in range(0, len(raw), step))


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_a_file_may_contain_text_that_looks_like_a_boundary(step: int) -> None:
    data = f"\r\n--{BOUNDARY[:-1]}\r\n\r\n--\r\n-{BOUNDARY}--\r\n"
    form, found = feed(part('name="file"; filename="a"', data) + END, step)
    assert found.decode() == data
    assert form.is_complete


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (part('name="purpose"'), "'purpose'"),
        (part('name="file"; filename="a"') + part('name="file"; filename="b"'), "more than one file"),
        (part('name="file"; filename="a"') + part('name="purpose"'), "'purpose'"),
        (part('name="file"', "data.jsonl"), '"@"'),
        (part('name="' + "n" * 3000 + '"; filename="a"'), "nnn"),
        (part('filename="a"'), "None"),
        ("no form at all", "not a multipart form"),
        (f"--{BOUNDARY}\r\nX-Long: {'y' * 5000}\r\n\r\n", "header size"),
        (f"--{BOUNDARY}\r\n" + "X-Many: y\r\n" * 9 + "\r\n", "header count"),
        (f"--{BOUNDARY}\r\nBad Header: y\r\n\r\n", "not a multipart form"),
    ],
)
def test_forms_with_anything_but_one_file_are_refused(body: str, says: str) -> None:
    with pytest.raises(InvalidMultipart) as caught:
        feed(body + END)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ('filename="../../etc/passwd"', "passwd"),
        ('filename="C:\\\\Users\\\\me\\\\rows.jsonl"', "rows.jsonl"),
        ('filename="a%0D%0Ab%22.jsonl"', 'ab".jsonl'),
        ('filename="a\nb.jsonl"', "ab.jsonl"),
        ('filename="tab\tbell\x07nul\x00.jsonl"', "tabbellnul.jsonl"),
        ('filename="bärenträger.jsonl"', "bärenträger.jsonl"),
        ("filename=\"plain\"; filename*=UTF-8''b%C3%A4r%0A%2Fx%00.jsonl", "x.jsonl"),
        ("filename*=UTF-8''b%C3%A4r.jsonl", "bär.jsonl"),
        ("filename*=no-such-charset''b%C3%A4r.jsonl; filename=\"b\"", "bÃ¤r.jsonl"),
        ("filename=\"x; filename*=UTF-8''trap\"", "x; filename*=UTF-8''trap"),
        ('filename="rows\u202egnp.jsonl"', "rowsgnp.jsonl"),
        (f'filename="{"n" * 300}"', "n" * 255),
        ('filename=".."', "dataset"),
        ('filename="/"', "dataset"),
        ('filename=""', "dataset"),
        ('filename="\x07"', "dataset"),
        ("filename=rows.jsonl", "rows.jsonl"),
    ],
)
def test_file_names_are_cleaned(given: str, shown: str) -> None:
    form, _ = feed(part(f'name="file"; {given}') + END)
    assert form.filename == shown


@pytest.mark.parametrize("name", ["rows\u202egnp.jsonl", "\u2066a", "a\0", "a\ud800", "x/\x07"])
def test_names_with_removed_characters_are_unsafe(name: str) -> None:
    assert is_unsafe_filename(name)
    assert not is_unsafe_filename(clean_filename(name))


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "", "..", "../../etc/passwd", "C:\\Ordner\\bär 1.csv", "\u202e/a", "שלום.csv"]
)
def test_other_names_are_safe(name: str) -> None:
    assert not is_unsafe_filename(name)


def test_a_cleaned_name_has_no_lone_surrogate() -> None:
    assert clean_filename("a\ud800b.jsonl") == "ab.jsonl"

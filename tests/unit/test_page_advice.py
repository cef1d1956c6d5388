"""Compares the web page's advice about datasets with the codes that inspections report."""

import re
from pathlib import Path

from app.domain.datasets.container import CONTAINER_CODES
from app.domain.datasets.formats import KEYS
from app.domain.datasets.problem import CODES, severity_of

PURE = Path(__file__).parents[2] / "app" / "page" / "static" / "js" / "pure"


def test_the_page_advises_on_every_code() -> None:
    text = "".join(path.read_text() for path in PURE.glob("dataset_advice_*.js"))
    found = re.findall(r'^  (\w+): \{\s*severity: "(\w+)"', text, re.MULTILINE)
    assert len(found) == len(dict(found)), "a code occurs twice"
    assert dict(found) == {code: severity_of(code).value for code in CODES | CONTAINER_CODES}


def test_the_page_shows_a_line_of_every_format() -> None:
    text = (PURE / "dataset_options.js").read_text()
    assert set(re.findall(r'\bformat: "(\w+)"', text)) == {format.value for format in KEYS}
    listed = re.search(r"FORMATS = \[([^\]]*)\]", text)
    assert listed is not None
    assert set(re.findall(r'"(\w+)"', listed[1])) == {format.value for format in KEYS}

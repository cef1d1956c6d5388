import re
from pathlib import Path

from app.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs/settings.md").read_text()
ROWS = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| (.+) \|$", PAGE, re.M)
FIELDS = {
    str(field.validation_alias or f"TUNEWRIGHT_{name.upper()}"): field for name, field in Settings.model_fields.items()
}


def test_every_setting_has_a_row_and_every_row_is_a_setting() -> None:
    assert [name for name, _, _ in ROWS] == list(FIELDS)


def test_meanings_are_the_settings_own() -> None:
    assert {name: meaning for name, _, meaning in ROWS} == {name: field.description for name, field in FIELDS.items()}


def test_defaults_are_listed() -> None:
    for name, listed, _ in ROWS:
        field = FIELDS[name]
        if field.default_factory is None:
            assert listed == ("unset" if field.default is None else f"`{field.default}`"), name


def test_other_variables_of_ours_in_the_docs_are_settings() -> None:
    client = {"TUNEWRIGHT_URL", "TUNEWRIGHT_API_KEY"}
    for page in (Path(__file__).parents[2] / "docs").rglob("*.md"):
        assert set(re.findall(r"TUNEWRIGHT_[A-Z_]+", page.read_text())) <= FIELDS.keys() | client, page

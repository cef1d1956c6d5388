"""Compares the page about the architecture with the folders and files of the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
DRAWING = ROOT / "docs/architecture.svg"
PROGRAMS = ("app", "worker", "tunewright")
LINE = re.compile(r"(?P<indent>(?:  )*)(?P<name>[a-z_]+)/ +[A-Z].*\.")
"""A folder and a sentence about it."""
PLACE = re.compile(r"(?:app|worker|tunewright|docs)/[\w/]*(?:\.\w+)?")
MAX_DRAWING_BYTES = 30_000


def folders_of_page() -> Iterator[str]:
    (tree,) = re.findall(r"```text\n(.+?)```", PAGE, re.DOTALL)
    parents: list[str] = []
    for line in tree.splitlines():
        match = LINE.fullmatch(line)
        assert match, f"not a folder with a sentence: {line}"
        parents = [*parents[: len(match["indent"]) // 2], match["name"]]
        yield "/".join(parents)


def folders_of_code() -> set[str]:
    modules = (path for program in PROGRAMS for path in (ROOT / program).rglob("*.py"))
    return {path.parent.relative_to(ROOT).as_posix() for path in modules}


def test_the_page_lists_every_folder_once() -> None:
    listed = list(folders_of_page())
    assert len(set(listed)) == len(listed)
    assert {folder for folder in listed if folder.partition("/")[0] in PROGRAMS} == folders_of_code()
    assert not [folder for folder in listed if not (ROOT / folder).is_dir()]


def test_every_file_that_the_page_names_exists() -> None:
    named = [name for name in re.findall(r"`([^`\n]+)`", PAGE) if PLACE.fullmatch(name)]
    assert len(named) > 30
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_drawing_is_small_and_names_existing_files() -> None:
    assert DRAWING.stat().st_size <= MAX_DRAWING_BYTES
    texts = ["".join(node.itertext()) for node in ElementTree.parse(DRAWING).iter() if node.tag.endswith("}text")]
    named = [text for text in texts if PLACE.fullmatch(text)]
    assert {"app/main.py", "worker/training/"} <= set(named)
    assert not [name for name in named if not (ROOT / name).exists()]

"""Generates realistic chat datasets from a seed: the same bytes each time, and no two equal rows."""

import json
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

LATIN: Final = "abcdefghijklmnopqrstuvwxyz"
OTHER: Final = "абвгдежзийклмнопрстуфхцчшщъыьэюяéüñçßøåאבגדהוזحخدذرزس漢字仮名交文日本語中國人民하세요감사"
KINDS: Final = {
    "chat": "two to six turns of some hundred words, English",
    "marked": "the same with headings, lists, code and tables: many line breaks and quotation marks",
    "scripts": "the same in Cyrillic, Hebrew, Arabic, Chinese and Korean letters, as UTF-8",
    "escaped": "the same, each letter beyond ASCII escaped, as json.dumps writes it",
    "short": "a question and an answer of a few words each, and two more columns",
}
"""Describes the kinds of rows."""
NUM_MADE: Final = 4000
"""Counts the generated rows. Then they repeat, each with a different number in its first text."""
MARKS: Final = (
    "## {}\n\n",
    "- {}\n",
    '"{}" is what\n    they say.\n',
    "| {} | 1 |\n",
    '{}\n```\nfor each in rows:\n    print("{{}}".format(each))\n```\n',
)


class Rows:
    def __init__(self, kind: str) -> None:
        self._kind, self._draw = kind, random.Random(kind)
        letters = OTHER if kind in ("scripts", "escaped") else LATIN
        self._words = ["".join(self._draw.choices(letters, k=self._draw.randint(2, 9))) for _ in range(NUM_MADE)]

    def lines(self) -> Iterator[bytes]:
        """Yield lines endlessly."""
        escape = self._kind == "escaped"
        made = [json.dumps(self._row(number), ensure_ascii=escape).encode() for number in range(NUM_MADE)]
        for number in count():
            yield made[number % NUM_MADE].replace(b'"content": "', b'"content": "%d ' % number, 1) + b"\n"

    def _row(self, number: int) -> dict[str, Any]:
        if self._kind == "short":
            return {"messages": self._turns(1, 4, 12), "id": number, "source": "desk"}
        system = [{"role": "system", "content": "You answer briefly and truly."}] if number % 3 == 0 else []
        return {"messages": system + self._turns(self._draw.choice((1, 1, 2, 3)), 40, 150)}

    def _turns(self, pairs: int, asked: int, answered: int) -> list[dict[str, str]]:
        return [
            {"role": role, "content": self._text(self._draw.randint(words // 2, words * 3 // 2))}
            for _ in range(pairs)
            for role, words in (("user", asked), ("assistant", answered))
        ]

    def _text(self, num_words: int) -> str:
        words = self._draw.choices(self._words, k=num_words)
        if self._kind != "marked":
            return " ".join(words).capitalize() + "."
        parts = [" ".join(words[start : start + 12]) for start in range(0, num_words, 12)]
        return "".join(self._draw.choice(MARKS).format(part) for part in parts)


def write_chat(path: Path, kind: str, num_bytes: int) -> Path:
    """Write rows of at least `num_bytes`."""
    with path.open("wb") as file:
        for line in Rows(kind).lines():
            file.write(line)
            if file.tell() >= num_bytes:
                break
    return path


def write_wrong(path: Path, num_rows: int) -> Path:
    """Write one valid row, which shows the format, and rows with one error each, of several kinds."""
    wrong = (
        b'{"messages": [{"role": "user", "content": "%d"}]}\n',
        b'{"messages": [{"role": "robot", "content": "%d"}, {"role": "assistant", "content": "a"}]}\n',
        b'{"messages": "%d"}\n',
        b'{"messages": [{"role": "user", "content": "%d"}, {"role": "assistant", "content": 1}]}\n',
        b'{"messages": [{"role": "user", "content": "%d}\n',
    )
    with path.open("wb") as file:
        file.write(b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
        for number in range(num_rows):
            file.write(wrong[number % len(wrong)] % number)
    return path

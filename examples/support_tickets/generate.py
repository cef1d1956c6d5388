"""Writes train.jsonl and test.jsonl: support tickets, each with its classification as a JSON object.

The files are written to this folder, or to the folder given. The seed is fixed, so every run writes the same bytes. No
wording of a problem is in both files.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import phrases

SEED = 7
ROWS = {"train": 252, "test": 60}
PROMPT = "Sort this ticket into JSON with product, intent, team, reply.\n{ticket}\n"
Row = dict[str, str]
Card = TypeVar("Card")


def write(folder: Path) -> None:
    rng = random.Random(SEED)
    train = make_rows(rng, phrases.PROBLEMS, ROWS["train"])
    test = make_rows(rng, phrases.TEST_PROBLEMS, ROWS["test"])
    for name, rows in {"train": train, "test": test}.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def make_rows(rng: random.Random, problems: dict[str, list[str]], count: int) -> list[Row]:
    """Return `count` rows. Every phrase of a list is used before one is used again."""
    problem = {intent: _deck(rng, wordings) for intent, wordings in problems.items()}
    cue = {reply: _deck(rng, wordings) for reply, wordings in phrases.REPLIES.items()}
    product = _deck(rng, list(phrases.PRODUCTS))
    labels = _deck(rng, [(intent, reply) for intent in problems for reply in phrases.REPLIES])
    rows = []
    for _ in range(count):
        (intent, reply), item = next(labels), next(product)
        ticket = _ticket(rng, next(problem[intent]), next(cue[reply]), item)
        rows.append({"prompt": PROMPT.format(ticket=ticket), "completion": answer(item, intent, reply)})
    return rows


def answer(product: str, intent: str, reply: str) -> str:
    fields = {"product": product, "intent": intent, "team": phrases.TEAMS[intent], "reply": reply}
    return json.dumps(fields, separators=(",", ":"))


def _deck(rng: random.Random, cards: list[Card]) -> Iterator[Card]:
    while True:
        yield from rng.sample(cards, len(cards))


def _ticket(rng: random.Random, problem: str, cue: str, product: str) -> str:
    opener, closer = rng.choice(phrases.OPENERS), rng.choice(phrases.CLOSERS)
    first, second = (problem, cue) if rng.random() < 0.7 else (cue, problem)
    if not opener.endswith(","):
        first = _capital(first)
    text = " ".join(part for part in (opener, first, _capital(second), closer) if part)
    if rng.random() < 0.2:
        text = text.lower()
    if rng.random() < 0.25:
        text = _with_typo(rng, text)
    house_name, word = phrases.PRODUCTS[product]
    name = rng.choice([house_name, house_name, word, f"{house_name} {word}"])
    return text.format(p=name, n=rng.choice(phrases.NAMES))


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _with_typo(rng: random.Random, text: str) -> str:
    """Drop, double or swap a letter of a word of five letters or more, if there is one."""
    long_words = [word for word in text.split() if word.isalpha() and len(word) >= 5]
    if not long_words:
        return text
    word, at = rng.choice(long_words), rng.randrange(1, 4)
    dropped = word[:at] + word[at + 1 :]
    doubled = word[:at] + word[at] + word[at:]
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return text.replace(word, rng.choice([dropped, doubled, swapped]), 1)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

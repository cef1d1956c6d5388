"""Generates the benchmark's dataset from a seed: word problems with worked solutions in plain English.

A third of a row's tokens is the question, two thirds are the answer. Lengths vary as in collections of school problems:
most rows are near the mean, some are two or three times as long.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, str]
NAMES = ["Amara", "Bela", "Chidi", "Dana", "Emeka", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kofi", "Leila", "Nadia"]
PLACES = {
    "a small bakery": "loaves of bread",
    "the school library": "picture books",
    "a garden centre": "tomato plants",
    "a bicycle workshop": "spare tyres",
    "the village pottery": "clay bowls",
    "a fruit stall by the station": "crates of apples",
    "the local theatre": "folding chairs",
    "a toy shop": "wooden trains",
}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


@dataclass
class Problem:
    """Describes a count that changes from day to day, as a question and as a worked solution."""

    draw: random.Random
    name: str
    things: str
    count: int
    asked: list[str] = field(default_factory=list)
    worked: list[str] = field(default_factory=list)

    def pick(self, *sentences: str) -> str:
        return self.draw.choice(sentences)


def delivery(problem: Problem, day: str) -> None:
    more, before = problem.draw.randrange(6, 90), problem.count
    problem.count += more
    problem.asked.append(
        problem.pick(
            f"On {day} a delivery that was ordered weeks ago brings {more} more.",
            f"The van comes on {day} and leaves {more} new ones at the door.",
            f"On {day} {problem.name} buys another {more} from a friend.",
        )
    )
    problem.worked.append(
        problem.pick(
            f"The {more} from {day} are added to what was there: {before} + {more} = {problem.count} {problem.things}.",
            f"Next come the {more} from {day}, so that the total rises to {before} + {more} = {problem.count}.",
        )
    )


def sale(problem: Problem, day: str) -> None:
    fewer, before = problem.draw.randrange(1, problem.count // 2), problem.count
    problem.count -= fewer
    problem.asked.append(
        problem.pick(
            f"When the doors close on {day} evening, {fewer} of them are gone.",
            f"On {day} customers come early and take {fewer} with them.",
            f"{problem.name} gives {fewer} away to the neighbours on {day}.",
        )
    )
    problem.worked.append(
        problem.pick(
            f"On {day} the number goes down, so we subtract: {before} - {fewer} = {problem.count}.",
            f"We take off the {fewer} that left on {day}: "
            f"{before} - {fewer} = {problem.count} {problem.things} are left.",
        )
    )


def doubling(problem: Problem, day: str) -> None:
    times, before = problem.draw.choice([2, 3]), problem.count
    problem.count *= times
    word = {2: "twice", 3: "three times"}[times]
    problem.asked.append(
        problem.pick(
            f"A neighbour who closes down lends enough on {day} to have {word} as many.",
            f"On {day}, after a long talk with the owner, the stock grows to {word} what it was.",
        )
    )
    problem.worked.append(
        f"To have {word} as many is to multiply by {times}. Before {day} there were {before}, and {times} x {before} = "
        f"{problem.count}."
    )


def breakage(problem: Problem, day: str) -> None:
    share = problem.draw.choice([4, 5, 10])
    lost, before = problem.count // share, problem.count
    problem.count -= lost
    problem.asked.append(
        problem.pick(
            f"One in {share}, rounded down, turns out to be damaged on {day} and is thrown away.",
            f"On {day} {problem.name} finds that one {share}th of them, rounded down, cannot be used any more.",
        )
    )
    problem.worked.append(
        f"One in {share} means that we divide by {share}. {before} / {share} is {lost} when we round down, so "
        f"{before} - {lost} = {problem.count} are still good after {day}."
    )


MOVES: list[Callable[[Problem, str], None]] = [delivery, sale, sale, doubling, breakage]


def make_row(draw: random.Random) -> Row:
    place, things = draw.choice(list(PLACES.items()))
    problem = Problem(draw, draw.choice(NAMES), things, draw.randrange(30, 160))
    start, price = problem.count, draw.randrange(2, 15)
    problem.asked.append(f"{problem.name} looks after {place}, where the week begins with {start} {things}.")
    problem.worked.append(
        problem.pick(
            f"Let us follow the number of {things} through the week. At the beginning there are {start}.",
            f"We start with {start} {things} and work through the days one by one.",
        )
    )
    num_moves = min(len(DAYS), 1 + int(draw.lognormvariate(0.3, 0.7)))
    for day in DAYS[:num_moves]:
        draw.choice([delivery] if problem.count < 20 else MOVES)(problem, day)
    if draw.random() < 0.5:
        problem.asked.append(f"What are the remaining {things} worth at {price} euros each?")
        problem.worked.append(
            f"What is left at the end is {problem.count} {things}. At {price} euros each they are worth "
            f"{problem.count} x {price} = {problem.count * price} euros. The answer is {problem.count * price}."
        )
    else:
        problem.asked.append(f"How many {things} are there in the end?")
        problem.worked.append(
            f"No other change is mentioned, so this is how many there are in the end. The answer is {problem.count}."
        )
    return {"prompt": " ".join(problem.asked) + "\n", "completion": " ".join(problem.worked)}


def make_rows(num_rows: int, seed: int) -> list[Row]:
    draw = random.Random(f"word problems {seed}")
    return [make_row(draw) for _ in range(num_rows)]


def write_rows(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tokenized(row: Row, tokenizer: Any) -> dict[str, list[int]]:
    """Tokenize a row in the same way for every engine: BOS, prompt, completion, EOS, with labels on the last two."""
    prompt = tokenizer(row["prompt"])["input_ids"]
    completion = [*tokenizer(row["completion"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return {
        "input_ids": prompt + completion,
        "attention_mask": [1] * len(prompt + completion),
        "labels": [-100] * len(prompt) + completion,
    }

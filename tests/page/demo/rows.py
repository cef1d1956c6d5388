"""Writes the rows of the demonstration's datasets: believable texts, the same bytes each time."""

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

NAMES = ("Mara", "Tom", "Aylin", "Jonas", "Priya", "Elena", "Noah", "Sofia", "Kofi", "Ines", "Bram", "Lucia")
PRODUCTS = ("the Aero 2 router", "my standing desk", "the annual plan", "order 48213", "the travel kettle",
            "my headphones", "the Nova tablet", "the garden pump", "the family tariff", "my winter jacket")  # fmt: skip
ISSUES = (
    ("arrived with a cracked case", "I have ordered a replacement, which ships today. You can keep the damaged one."),
    ("stopped working after the last update", "Please hold the power button for ten seconds; this installs the fix."),
    ("was charged twice", "I have refunded the second charge. It reaches your account within three working days."),
    ("has not arrived yet", "The parcel is at the depot in your town and will be delivered tomorrow before noon."),
    ("is the wrong size", "I have sent you a return label. The right size leaves our warehouse this afternoon."),
    ("shows an error with the code E41", "E41 means that the filter is full. Rinse it under warm water and restart."),
    ("cannot be cancelled in the app", "I have cancelled it for you. It stays usable until the end of the month."),
    ("does not connect to my phone", "Please remove the old pairing in your phone's settings, then pair it again."),
)
GREETINGS = ("Hello", "Hi", "Good morning", "Dear team", "Hey there")
SYSTEM = "You answer customers of a shop for home electronics. Be brief, friendly and concrete."


def chats(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield support conversations in the format `messages`."""
    rng = random.Random(seed)
    for number in range(count):
        name, product = rng.choice(NAMES), rng.choice(PRODUCTS)
        issue, answer = rng.choice(ISSUES)
        asked = f"{rng.choice(GREETINGS)}, {product} {issue}. My ticket is {20_000 + seed * 7919 + number}. {name}"
        turns = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": f"Hello {name}, I am sorry that {product} {issue}. {answer}"},
        ]
        if rng.random() < 0.35:
            turns += [
                {"role": "user", "content": rng.choice(("Thank you, that helps.", "And if that does not work?"))},
                {"role": "assistant", "content": "You are welcome. Just answer this message if anything is open."},
            ]
        yield {"messages": turns}


def invoices(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield invoices' texts with their fields in the format `prompt_completion`."""
    rng = random.Random(seed)
    firms = ("Halden Paper", "Brightwater Energy", "Kessler Tools", "Nordlys Freight", "Olive & Oak Catering")
    for number in range(count):
        firm, total = rng.choice(firms), f"{rng.randint(1_900, 480_000) / 100:.2f}"
        date = f"{rng.randint(1, 28):02}.{rng.randint(1, 12):02}.2026"
        text = f"INVOICE {firm} no. {7_000 + number} dated {date} total EUR {total}"
        fields = {"supplier": firm, "number": str(7_000 + number), "total": total, "currency": "EUR"}
        yield {"prompt": text, "completion": json.dumps(fields)}


def questions(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield questions about a database with their SQL in the format `alpaca`."""
    rng = random.Random(seed)
    tables = {"orders": "total", "shipments": "weight_kg", "tickets": "minutes_open", "visits": "duration_seconds"}
    for _ in range(count):
        table, column = rng.choice(list(tables.items()))
        function, word = rng.choice((("avg", "average"), ("max", "highest"), ("sum", "total"), ("count", "number of")))
        month = rng.randint(1, 12)
        yield {
            "instruction": f"What is the {word} {column} of all {table} in month {month} of 2026?",
            "input": f"CREATE TABLE {table} (id int, {column} numeric, created_at date)",
            "output": f"SELECT {function}({column}) FROM {table} WHERE extract(month FROM created_at) = {month} "
            "AND extract(year FROM created_at) = 2026;",
        }


def preferences(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a warm and a cold answer to the same message in the format `preference`."""
    rng = random.Random(seed)
    for number in range(count):
        name, product = rng.choice(NAMES), rng.choice(PRODUCTS)
        issue, answer = rng.choice(ISSUES)
        yield {
            "prompt": f"{product} {issue}. {name} (case {number + 1})",
            "chosen": f"Hello {name}, thank you for letting us know. {answer}",
            "rejected": rng.choice(
                ("See our FAQ.", "This was answered before.", f"Nothing can be done about {product}.")
            ),
        }


def with_problems(rows: Iterable[dict[str, Any]]) -> bytes:
    """Return a file in which a few lines have the mistakes that people make."""
    lines = [json.dumps(row) for row in rows]
    lines[17] = lines[17].replace('"user"', '"customer"')
    lines[18] = lines[18].replace('"user"', '"customer"')
    lines[41] = lines[41][: len(lines[41]) // 2]
    lines[63] = json.dumps({"question": "Where is my parcel?", "answer": "At the depot."})
    lines[88] = json.dumps({"messages": [{"role": "system", "content": SYSTEM}]})
    lines[120] = lines[120].replace('"role": "assistant"', '"role": "assistant", "weight": 0.5', 1)
    lines[150:153] = [lines[149]] * 3
    lines[200] = lines[200].replace("Hello", "HELLO ")
    lines[233] = json.dumps({"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Yes?"}]})
    return "\n".join([*lines, ""]).encode()


def as_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

"""Tests each line of "What is learned" in docs/openai.md against the rows that a job of /v1 trains on."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from app.domain.jobs.spec import JobSpec
from app.openai.jobs.spec import CreateJob, spec_of
from tests.fixtures.inspection import codes
from tests.fixtures.tiny_models import TURN_TEMPLATE
from worker.training.data.dataset import Examples
from worker.training.loop.optimizer import learning_rate
from worker.training.rows.tokenize import tokenize
from worker.training.rows.tokenizer import Tokens
from worker.training.runtime.messages import TrainingRequest

PAGE = Path(__file__).parents[3] / "docs" / "openai.md"
BASE_RATE = 2e-4
USER = {"role": "user", "content": "Hi"}
YES, NO = ({"role": "assistant", "content": text} for text in ("yes", "no"))
CHAT = [USER, YES, USER, NO]


def spec_for(num_bytes: int = 1000, **body: Any) -> JobSpec:
    asked = CreateJob.model_validate({"model": "tiny", "training_file": "file-" + "0" * 24} | body)
    spec, errors = spec_of(asked, num_bytes, seed=7, base_rate=BASE_RATE)
    assert not errors
    return JobSpec.model_validate(spec).decided(4096)


class Learning:
    """Creates `/v1` jobs on a few chats, up to their tokens."""

    def __init__(self, make_request: Callable[..., TrainingRequest], folder: Path, model: Path) -> None:
        self._make, self._folder = make_request, folder
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.chat_template = TURN_TEMPLATE
        self.tokens = Tokens(tokenizer)

    def texts(self, *chats: list[dict[str, Any]], **body: Any) -> list[tuple[str, list[str]]]:
        """Return, for each trained row, its whole text and the pieces that carry loss."""
        path = self._folder / "rows.jsonl"
        path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
        request = self._make(spec=spec_for(**body), dataset_path=path, dataset_format="messages")
        rows = Examples.of(tokenize(request, self.tokens).training_path)
        return [(self.tokens.decode(row.ids.tolist()), self._pieces(row)) for row in rows]

    def learned(self, chat: list[dict[str, Any]], **body: Any) -> list[str]:
        [(_, pieces)] = self.texts(chat, **body)
        return pieces

    def _pieces(self, row: Any) -> list[str]:
        labelled = "".join("x" if each else "." for each in row.labelled)
        return [
            self.tokens.decode(row.ids[found.start() : found.end()].tolist()) for found in re.finditer("x+", labelled)
        ]


@pytest.fixture
def learning(make_request: Callable[..., TrainingRequest], tmp_path: Path, tiny: Callable[[str], Path]) -> Learning:
    return Learning(make_request, tmp_path, tiny("llama"))


def answers(learning: Learning) -> None:
    assert learning.learned(CHAT) == ["yes<end>", "no<end>"]
    last = {"tunewright": {"training": {"train_on": "completion"}}}
    assert learning.learned(CHAT, **last) == ["no<end>"]


def weight(learning: Learning) -> None:
    for given in ({}, {"weight": 1}, {"weight": None}):
        assert learning.learned([USER, YES | given, USER, NO]) == ["yes<end>", "no<end>"]
    assert learning.learned([USER, YES | {"weight": 0}, USER, NO]) == ["no<end>"]
    assert learning.learned([USER, YES, USER, NO | {"weight": 0}]) == ["yes<end>"]
    weighed = [USER | {"weight": 1}, YES]
    assert learning.learned(weighed) == ["yes<end>"]
    assert codes({"messages": weighed}) == [("/messages/0/weight", "unused_key")]


def other_turns(learning: Learning) -> None:
    system, tool = {"role": "system", "content": "S"}, {"role": "tool", "content": "T"}
    call = {"role": "assistant", "content": "c", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    assert learning.learned([system, USER, call, tool, NO]) == ["c<end>", "no<end>"]


def reasoning(learning: Learning) -> None:
    chat = [USER, YES | {"reasoning_content": "hm"}]
    learning.tokens.tokenizer.chat_template = TURN_TEMPLATE.replace(
        "{{ message.content }}", "{{ message.reasoning_content }}|{{ message.content }}"
    )
    assert learning.learned(chat) == ["hm|yes<end>"]
    for way, expected in (("context", "yes<end>"), ("drop", "|yes<end>")):
        assert learning.learned(chat, tunewright={"training": {"reasoning": way}}) == [expected]


def end_of_turn(learning: Learning) -> None:
    [(text, pieces)] = learning.texts([USER, YES])
    assert (text[-6:], pieces) == ("<end>\n", ["yes<end>"])


def system_text(learning: Learning) -> None:
    [(text, _), (developed, _)] = learning.texts([USER, YES], [{"role": "developer", "content": "S"}, USER, YES])
    assert text == "<bos><turn>user\nHi<end>\n<turn>assistant\nyes<end>\n"
    assert developed.startswith("<bos><turn>system\nS<end>")


def length(learning: Learning) -> None:
    assert spec_for().training.max_seq_len == 2048
    short = {"tunewright": {"training": {"max_seq_len": 16}}}
    [(text, pieces)] = learning.texts([USER, YES | {"content": "y" * 50}], [USER | {"content": "x" * 50}, YES], **short)
    assert pieces == ["y" * text.count("y")], "one answer must be truncated at its end, and the other dropped"


def rate(learning: Learning) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"learning_rate_multiplier": 0.5}}}
    assert (spec_for().training.learning_rate, spec_for(method=method).training.learning_rate) == (2e-4, 1e-4)
    training = spec_for().training
    rates = [learning_rate(step, 100, training) for step in (1, 3, 50, 100)]
    assert rates[0] < rates[1] == max(rates)
    assert rates[1] > rates[2] > rates[3]


def epochs(learning: Learning) -> None:
    small, large = spec_for(2**20).training, spec_for(100 * 2**20).training
    assert (small.epochs, small.batch_size, large.epochs, large.batch_size) == (3, 8, 1, 64)


CLAIMS: dict[str, Callable[[Learning], None]] = {
    "answers": answers,
    "`weight`": weight,
    "other turns": other_turns,
    "reasoning": reasoning,
    "end of turn": end_of_turn,
    "system text": system_text,
    "length": length,
    "learning rate": rate,
    "epochs, batch size": epochs,
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_of_the_page(claim: str, learning: Learning) -> None:
    CLAIMS[claim](learning)


def test_each_line_of_the_page_is_tested() -> None:
    section = PAGE.read_text().partition("\n## What is learned\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    assert lines[0] == "what"
    assert [line for line in lines[1:] if set(line) - set("- ")] == list(CLAIMS)

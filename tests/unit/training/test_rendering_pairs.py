"""Tests the rendering of preferences: the ways to write them, truncation, and omitted pairs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.domain.jobs.state import FailureReason
from tests.fixtures.tiny_models import TURN_TEMPLATE
from tests.unit.training.conftest import Recorder
from tests.unit.training.pairs import make_dpo, write
from worker.training.loop.training_loop import train
from worker.training.rows.bad_rows import SkippedRows
from worker.training.rows.rendering import Rendered, Renderer
from worker.training.rows.tokenizer import Tokens, load_tokens
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest

USER = {"role": "user", "content": "Is it late?"}
GOOD = {"role": "assistant", "content": "yes"}
BAD = {"role": "assistant", "content": "no"}
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
FOUND = {"role": "tool", "content": "4"}
ASKED = "<bos><turn>user\nIs it late?<end>\n<turn>assistant\n"


@pytest.fixture
def tokens(tiny: Callable[[str], Path]) -> Tokens:
    tokens = load_tokens(tiny("llama"))
    tokens.tokenizer.chat_template = TURN_TEMPLATE
    return tokens


def render(tokens: Tokens, path: Path, *rows: dict[str, Any], limit: int = 512, **options: Any) -> Rendered:
    return Renderer(tokens, "completion", limit, "dpo").render_file(write(path, list(rows)), **options)


def shown(tokens: Tokens, rendered: Rendered) -> list[tuple[str, str]]:
    """Return, for each answer, the text before its labels and the labelled tokens."""
    return [
        (tokens.decode(row.ids[~row.labelled].tolist()), tokens.decode(row.ids[row.labelled].tolist()))
        for row in rendered.rows
    ]


WAYS: dict[str, dict[str, Any]] = {
    "turns": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "openai": {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "a list as the input": {"input": [USER], "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "a text to turns": {"prompt": USER["content"], "chosen": [GOOD], "rejected": [BAD]},
    "texts after turns": {"prompt": [USER], "chosen": "yes", "rejected": "no"},
    "answers that repeat the question": {"prompt": "Is it late?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
}


@pytest.mark.parametrize("way", WAYS)
def test_conversations_in_every_notation(way: str, tokens: Tokens, tmp_path: Path) -> None:
    rendered = render(tokens, tmp_path / "rows.jsonl", WAYS[way])
    answers = shown(tokens, rendered)
    assert [labelled for _, labelled in answers] == ["yes<end>", "no<end>"]
    assert [before.rstrip("\n") for before, _ in answers] == [ASKED.rstrip("\n")] * 2
    assert [row.line for row in rendered.rows] == [1, 1]
    assert rendered.num_unstable == 0


def test_texts_are_read_as_completions_are(tokens: Tokens, tmp_path: Path) -> None:
    rendered = render(tokens, tmp_path / "rows.jsonl", {"prompt": "Q: ", "chosen": "yes", "rejected": "no way"})
    assert shown(tokens, rendered) == [("<bos>Q: ", "yes<eos>"), ("<bos>Q: ", "no way<eos>")]
    assert not rendered.uses_template


def test_the_shared_beginning_of_answers_is_not_labelled(tokens: Tokens, tmp_path: Path) -> None:
    """Use a call, its result and then two continuations; and an answer that is all context except for its end."""
    row = {"prompt": [USER], "chosen": [CALL, FOUND, GOOD], "rejected": [CALL, FOUND, BAD]}
    same = {"prompt": [USER], "chosen": [GOOD], "rejected": [GOOD]}
    quiet = {"prompt": [USER], "chosen": [BAD | {"weight": 0}, USER, GOOD], "rejected": [BAD]}
    answers = shown(tokens, render(tokens, tmp_path / "rows.jsonl", row, same, quiet))
    labels = [labelled for _, labelled in answers]
    assert labels == ["yes<end>", "no<end>", "yes<end>", "yes<end>", "yes<end>", "no<end>"]


def test_each_answer_is_truncated_at_its_end(tokens: Tokens, tmp_path: Path) -> None:
    """Keep the prompt. If nothing of an answer is left, the whole pair is omitted."""
    long = {"prompt": "a", "chosen": "b" * 40, "rejected": "c"}
    hopeless = {"prompt": "a" * 40, "chosen": "b", "rejected": "c"}
    rendered = render(tokens, tmp_path / "rows.jsonl", long, hopeless, limit=10)
    assert (len(rendered.rows), rendered.num_truncated, rendered.num_dropped) == (2, 2, 1)
    chosen, rejected = shown(tokens, rendered)
    assert chosen == ("<bos>a", "b" * 8)
    assert rejected == ("<bos>a", "c<eos>")


def test_bad_rows_are_skipped_on_request(tokens: Tokens, tmp_path: Path) -> None:
    good, other = {"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a", "completion": "b"}
    broken = {"prompt": "a", "chosen": "b", "rejected": 7}
    with SkippedRows(tmp_path / "skipped.jsonl", "training", 0.9) as skipped:
        rendered = render(tokens, tmp_path / "rows.jsonl", good, other, broken, good, skipped=skipped)
    assert [row.line for row in rendered.rows] == [1, 1, 4, 4]
    assert skipped.codes == {"not_a_preference": 1, "wrong_type": 1}


@pytest.mark.parametrize("format", ["prompt_completion", None])
def test_a_dataset_of_another_format_is_refused(
    format: str | None, make_request: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    """Refuse it by the format that its inspection found, or by its first row."""
    channel = Recorder()
    with pytest.raises(TrainingFailed, match=r"format preference|chosen and a rejected") as caught:
        train(make_request(spec=make_dpo(), dataset_format=format), channel)
    assert caught.value.reason is FailureReason.dataset_invalid


def test_sft_refuses_preferences(make_request: Callable[..., TrainingRequest], tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(TrainingFailed, match="has the format preference") as caught:
        train(make_request(dataset_path=path, dataset_format="preference"), Recorder())
    assert caught.value.reason is FailureReason.dataset_invalid

"""Tests the tokens and labels of rows, token by token."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import decoders, pre_tokenizers
from transformers import AutoTokenizer

from app.domain.jobs.state import FailureReason
from tests.fixtures.tiny_models import TURN_TEMPLATE, build_tiny_model
from worker.training.rows.rendering import Rendered, Renderer, Row
from worker.training.rows.tokenizer import Tokens
from worker.training.runtime.errors import TrainingFailed

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "no"},
]


@pytest.fixture
def render(tmp_path: Path, tiny: Callable[[str], Path]) -> Callable[..., tuple[Rendered, Tokens]]:
    def render(
        *rows: dict[str, Any],
        family: str = "llama",
        template: str | None = None,
        train_on: str = "completion",
        max_seq_len: int = 512,
        reasoning: Any = "train",
    ) -> tuple[Rendered, Tokens]:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tokenizer = AutoTokenizer.from_pretrained(tiny(family))
        tokenizer.chat_template = template
        tokens = Tokens(tokenizer)
        return Renderer(tokens, train_on, max_seq_len, reasoning=reasoning).render_file(path), tokens

    return render


def marked(example: Row, tokens: Tokens) -> str:
    """Return the row's text, with the labelled parts in braces."""
    pieces, open = [], False
    for token, labelled in zip(example.ids.tolist(), example.labelled.tolist(), strict=True):
        if labelled != open:
            pieces.append("{" if labelled else "}")
        open = labelled
        pieces.append(tokens.tokenizer.decode([token]))
    return "".join(pieces) + ("}" if open else "")


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("completion", "<bos>Q: {yes<eos>}"),
        ("assistant", "<bos>Q: {yes<eos>}"),
        ("all", "{<bos>Q: yes<eos>}"),
    ],
)
def test_prompt_completion(render: Any, train_on: str, expected: str) -> None:
    rendered, tokens = render({"prompt": "Q: ", "completion": "yes"}, train_on=train_on)
    assert marked(rendered.rows[0], tokens) == expected
    assert not rendered.uses_template


def test_prompt_and_completion_are_tokenized_separately(render: Any) -> None:
    rendered, tokens = render({"prompt": "The cap", "completion": "ital is"})
    prompt = tokens.tokenizer("The cap")["input_ids"]
    assert rendered.rows[0].ids[: len(prompt)].tolist() == prompt
    assert rendered.rows[0].labelled.tolist().index(True) == len(prompt)
    assert len(tokens.tokenizer("The capital is")["input_ids"]) < len(rendered.rows[0].ids) - 1


def test_text_ends_with_eos(render: Any) -> None:
    rendered, tokens = render({"text": "Paris."})
    assert marked(rendered.rows[0], tokens) == "{<bos>Paris.<eos>}"


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        (
            "completion",
            "<bos><turn>system\nBe brief.<end>\n<turn>user\nHi<end>\n<turn>assistant\nyes<end>\n"
            "<turn>user\nAnd?<end>\n<turn>assistant\n{no<end>}\n",
        ),
        (
            "assistant",
            "<bos><turn>system\nBe brief.<end>\n<turn>user\nHi<end>\n<turn>assistant\n{yes<end>}\n"
            "<turn>user\nAnd?<end>\n<turn>assistant\n{no<end>}\n",
        ),
        (
            "all",
            "{<bos><turn>system\nBe brief.<end>\n<turn>user\nHi<end>\n<turn>assistant\nyes<end>\n"
            "<turn>user\nAnd?<end>\n<turn>assistant\nno<end>\n}",
        ),
    ],
)
def test_messages_in_the_models_template(render: Any, train_on: str, expected: str) -> None:
    """Expect one BOS, although tokenizer and template would both write it. The end of a turn is labelled, the
    newline is not."""
    rendered, tokens = render({"messages": CHAT}, template=TURN_TEMPLATE, train_on=train_on)
    assert marked(rendered.rows[0], tokens) == expected
    assert tokens.template_name == "the base model's tokenizer"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": CHAT}, ["yes<end>", "no<end>"]),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 2}, ["b<end>", "b<end>"]),
        ({"instruction": "a", "output": "c", "history": [["q", "b"]]}, ["c<end>"]),
        ({"prompt": "a", "completion": "b"}, ["b<eos>"]),
        ({"text": "a"}, ["<bos>a<eos>"]),
    ],
)
def test_auto_goes_by_the_format(render: Any, row: dict[str, Any], expected: list[str]) -> None:
    rendered, tokens = render(row, template=TURN_TEMPLATE, train_on="auto")
    assert re.findall("{(.*?)}", marked(rendered.rows[0], tokens)) == expected


def test_content_parts_are_joined_and_a_refusal_is_the_answer(render: Any) -> None:
    parts = [{"type": "text", "text": text} for text in ("Hi", "there")]
    chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": None, "refusal": "no"}]
    rendered, tokens = render({"messages": chat}, template=TURN_TEMPLATE, train_on="auto")
    assert marked(rendered.rows[0], tokens) == "<bos><turn>user\nHi\nthere<end>\n<turn>assistant\n{no<end>}\n"


THINKING = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<turn>{{ m.role }} {% if m.KEY and loop.index0 > ns.last %}"
    "<think>{{ m.KEY.strip() }}</think> {% endif %}{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant {% endif %}"
)
"""Resembles Qwen 3: only the reasoning of answers to the last question is rendered."""
THOUGHT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "yes", "reasoning_content": "one"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "no", "reasoning_content": "two "},
]


@pytest.mark.parametrize("key", ["reasoning_content", "thinking"])
@pytest.mark.parametrize(
    ("reasoning", "train_on", "expected"),
    [
        (
            "train",
            "auto",
            "<turn>user Hi<end>\n<turn>assistant {yes<end>}\n"
            "<turn>user And?<end>\n<turn>assistant {<think>two</think> no<end>}\n",
        ),
        (
            "context",
            "auto",
            "<turn>user Hi<end>\n<turn>assistant {yes<end>}\n"
            "<turn>user And?<end>\n<turn>assistant <think>two</think> {no<end>}\n",
        ),
        (
            "context",
            "all",
            "{<turn>user Hi<end>\n<turn>assistant yes<end>\n"
            "<turn>user And?<end>\n<turn>assistant }<think>two</think> {no<end>\n}",
        ),
        (
            "drop",
            "completion",
            "<turn>user Hi<end>\n<turn>assistant yes<end>\n<turn>user And?<end>\n<turn>assistant {no<end>}\n",
        ),
    ],
)
def test_reasoning_is_learned_shown_or_dropped(
    render: Any, reasoning: str, train_on: str, expected: str, key: str
) -> None:
    template = THINKING.replace("KEY", key)
    rendered, tokens = render({"messages": THOUGHT}, template=template, train_on=train_on, reasoning=reasoning)
    assert marked(rendered.rows[0], tokens) == expected
    counted = (0, 0) if reasoning == "drop" else (2, 1)
    assert (rendered.num_reasoning, rendered.num_unrendered_reasoning) == counted


def test_names_that_are_not_rendered_are_counted(render: Any) -> None:
    chat = [{"role": "user", "content": "Hi", "name": "Ann"}, {"role": "assistant", "content": "yes", "name": "Bot"}]
    assert render({"messages": chat}, template=TURN_TEMPLATE)[0].num_unrendered_names == 2
    named = TURN_TEMPLATE.replace(
        "{{ message.role }}", "{{ message.role }}{% if message.role == 'user' %} {{ message.name }}{% endif %}"
    )
    rendered, tokens = render({"messages": chat}, template=named)
    assert rendered.num_unrendered_names == 1
    assert "<turn>user Ann" in marked(rendered.rows[0], tokens)


def test_turns_of_weight_0_are_context(render: Any) -> None:
    chat = [*CHAT[:2], CHAT[2] | {"weight": 0}, *CHAT[3:]]
    for train_on in ("assistant", "all"):
        rendered, tokens = render({"messages": chat}, template=TURN_TEMPLATE, train_on=train_on)
        text = marked(rendered.rows[0], tokens)
        assert "yes<end>" in text.replace("{", "").replace("}", "")
        assert "no<end>" in text.rsplit("{", 1)[1]
        assert all("yes" not in piece.split("}")[0] for piece in text.split("{")[1:])


def test_the_last_answer_that_counts_is_the_completion(render: Any) -> None:
    chat = [*CHAT[:4], CHAT[4] | {"weight": 0}]
    rendered, tokens = render({"messages": chat}, template=TURN_TEMPLATE)
    assert marked(rendered.rows[0], tokens).endswith("<turn>assistant\n{yes<end>}\n")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Sum\n\n1 2"}, {"role": "assistant", "content": "3"}]},
        {"instruction": "Sum", "input": "1 2", "output": "3"},
        {"conversations": [{"from": "human", "value": "Sum\n\n1 2"}, {"from": "gpt", "value": "3"}]},
    ],
    ids=["messages", "alpaca", "sharegpt"],
)
def test_a_base_without_template_gets_ours(render: Any, row: dict[str, Any]) -> None:
    rendered, tokens = render(row)
    assert marked(rendered.rows[0], tokens) == "<bos>### user\nSum\n\n1 2<eos>\n### assistant\n{3<eos>}\n"
    assert tokens.template_name == "tunewright-chat-1"
    assert rendered.uses_template


def test_no_bos_where_the_model_has_none(render: Any) -> None:
    rendered, tokens = render({"messages": CHAT[1:3]}, family="qwen2")
    assert marked(rendered.rows[0], tokens) == "### user\nHi<eos>\n### assistant\n{yes<eos>}\n"


def test_the_rendered_prompt_is_what_inference_sends(render: Any) -> None:
    rendered, tokens = render({"messages": CHAT}, template=TURN_TEMPLATE)
    prompt = tokens.tokenizer.apply_chat_template(CHAT[:4], add_generation_prompt=True)["input_ids"]
    row = rendered.rows[0]
    assert row.ids[: len(prompt)].tolist() == prompt
    assert row.labelled.tolist().index(True) == len(prompt)


@pytest.mark.parametrize("train_on", ["completion", "all"])
def test_special_tokens_in_user_text_stay_text(render: Any, train_on: str) -> None:
    typed = "a<eos>b<end>"
    chat = [{"role": "user", "content": typed}, {"role": "assistant", "content": "c<eos>"}]
    for row in ({"messages": chat}, {"prompt": typed, "completion": "c<eos>"}, {"text": typed + "c<eos>"}):
        rendered, tokens = render(row, template=TURN_TEMPLATE, train_on=train_on)
        ids = rendered.rows[0].ids.tolist()
        assert ids.count(tokens.eos) == (0 if "messages" in row else 1)
        assert tokens.num_literal_special_tokens == 3
        text = tokens.tokenizer.decode(ids)
        assert typed in text
        assert "c<eos>" in text


def test_tools_reach_the_template_and_arguments_are_parsed(render: Any) -> None:
    template = (
        "{{ tools | tojson }}{% for m in messages %}<turn>{{ m.role }}:{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.arguments.city }}{% endfor %}<end>{% endfor %}"
        "{% if add_generation_prompt %}<turn>assistant:{% endif %}"
    )
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    row = {
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "sun"},
            {"role": "assistant", "content": "sun"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather"}}],
    }
    rendered, tokens = render(row, template=template, train_on="assistant")
    text = marked(rendered.rows[0], tokens)
    assert "<turn>assistant:{Bern<end>}<turn>tool:sun<end><turn>assistant:{sun<end>}" in text
    assert text.startswith('[{"type": "function", "function": {"name": "weather"}}]')


def test_an_unstable_template_labels_what_it_renders_and_is_counted(render: Any) -> None:
    template = (
        "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}<turn>{{ m.role }} {{ m.content }}<end>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<turn>assistant {% endif %}"
    )
    rendered, tokens = render({"messages": CHAT[1:]}, template=template, train_on="assistant")
    assert rendered.num_unstable == 1
    assert marked(rendered.rows[0], tokens) == "<turn>user Hi<end><turn>user And?<end><turn>assistant {no<end>}"


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("assistant", ["yes<end>", "call:look<end>", "<think></think>no<end>"]),
        ("completion", ["<think></think>no<end>"]),
    ],
)
def test_a_template_that_renders_the_last_answer_differently_labels_every_answer(
    render: Any, train_on: str, expected: list[str]
) -> None:
    """Use a template like Qwen 3's, in which only the last answer has a place for reasoning."""
    template = (
        "{% for m in messages %}<turn>{{ m.role }} {% if m.role == 'assistant' and loop.last %}<think></think>"
        "{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}call:{{ c.function.name }}{% endfor %}<end>\n"
        "{% endfor %}{% if add_generation_prompt %}<turn>assistant {% endif %}"
    )
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
    answered = [*CHAT[:4], call, {"role": "tool", "content": "4"}, CHAT[4]]
    rendered, tokens = render({"messages": answered}, template=template, train_on=train_on)
    assert re.findall("{(.*?)}", marked(rendered.rows[0], tokens)) == expected
    assert rendered.num_unstable == (train_on == "assistant")


def test_a_template_without_end_of_turn_is_counted(render: Any) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    rendered, _ = render({"messages": CHAT[1:3]}, template=template)
    assert rendered.num_endless == 1


def test_the_error_names_the_row_that_the_template_rejects(render: Any) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}<turn>"
    with pytest.raises(TrainingFailed, match=r"Row 1 of the dataset.*no system turns") as caught:
        render({"messages": CHAT}, template=template)
    assert caught.value.reason is FailureReason.dataset_invalid


def test_a_template_cannot_leave_its_sandbox(render: Any) -> None:
    template = "{{ messages.__class__.__mro__ }}{{ ''.__class__.__base__.__subclasses__() }}<turn>"
    with pytest.raises(TrainingFailed, match="chat template rejected"):
        render({"messages": CHAT}, template=template)


def test_truncated_and_dropped_rows_are_counted(render: Any) -> None:
    short, long = {"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "b" * 40}
    hopeless = {"prompt": "a" * 40, "completion": "b"}
    rendered, _ = render(short, long, hopeless, max_seq_len=16)
    assert (len(rendered.rows), rendered.num_truncated, rendered.num_dropped) == (2, 2, 1)
    assert [example.line for example in rendered.rows] == [1, 2]
    assert len(rendered.rows[1].ids) == 16


def test_lines_are_numbered_as_in_an_editor(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a b"}\n\n{"text": "c d"}\n')
    tokens = Tokens(AutoTokenizer.from_pretrained(tiny("llama")))
    assert [row.line for row in Renderer(tokens, "completion", 512).render_file(path).rows] == [1, 3]


def test_no_word_boundary_is_invented_before_a_completion(tmp_path: Path) -> None:
    """Use a tokenizer like SentencePiece's, which puts a space before every text."""
    tokenizer = AutoTokenizer.from_pretrained(build_tiny_model(tmp_path / "model", "qwen2"))
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    tokens = Tokens(tokenizer)
    assert tokens.tokenizer.decode(tokens.encode("yes", typed=True)) == " yes"
    assert tokens.tokenizer.decode(tokens.continuation("yes", typed=True)) == "yes"


def test_a_tokenizer_without_eos_is_refused(tiny: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny("llama"), eos_token=None)
    with pytest.raises(TrainingFailed, match="no EOS"):
        Tokens(tokenizer)

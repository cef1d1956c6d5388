"""Converts text to tokens, with the special handling that training data needs."""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from app.domain.datasets.conversation import Message
from app.domain.jobs.state import FailureReason
from worker.training.rows import chat_template
from worker.training.runtime.errors import TrainingFailed

BREAK = "\ue000"
"""Is inserted into a special token that a user typed, so that the token passes the chat template as plain text."""
ANCHOR = "\n"
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Lists the key's names in chat templates: that of Qwen, DeepSeek and GLM, then others', then gpt-oss's."""
PROBE = "\ue002"


class Tokens:
    """Encodes text as inference encodes it: without a second BOS, without an invented word boundary between prompt and
    completion, and without special tokens made of text that a user typed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        if tokenizer.eos_token_id is None:
            raise TrainingFailed(
                FailureReason.model_unusable, "The model's tokenizer has no EOS token, which must end each answer."
            )
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        plain, special = self.encode("a", typed=True), tokenizer("a")["input_ids"]
        self.bos: list[int] = special[: special.index(plain[0])] if plain[0] in special else []
        self.template_name = "the base model's tokenizer"
        if not tokenizer.chat_template:
            tokenizer.chat_template = chat_template.text(with_bos=bool(self.bos))
            self.template_name = chat_template.NAME
        self._invents_boundary = self.encode("a", typed=True) != self._after_anchor("a")
        specials = {id: str(token) for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special_ids = specials.keys()
        longest_first = sorted(specials.values(), key=len, reverse=True)
        self._typed = re.compile("|".join(re.escape(token) for token in longest_first))
        self._ends_turn = re.compile(rf"\s*(?:{self._typed.pattern})")
        self._broken = re.compile("|".join(re.escape(token[0] + BREAK + token[1:]) for token in longest_first))
        self.num_literal_special_tokens = 0

    def encode(self, text: str, *, typed: bool) -> list[int]:
        """Encode text. `typed` text comes from a user, and its special tokens are read as plain text."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=typed)
        return list(encoded["input_ids"])

    def continuation(self, text: str, *, typed: bool) -> list[int]:
        """Encode text that follows other tokens."""
        return self._after_anchor(text, typed=typed) if self._invents_boundary else self.encode(text, typed=typed)

    def encode_rendered(self, text: str, *, first: bool) -> list[int]:
        """Encode a template's output, in which the special tokens that users typed are broken."""
        ids: list[int] = []
        done = 0
        for match in self._broken.finditer(text):
            ids += self._piece(text[done : match.start()], first=first and not ids)
            ids += self.continuation(match.group().replace(BREAK, ""), typed=True)
            done = match.end()
        return ids + self._piece(text[done:], first=first and not ids)

    def render(self, messages: list[Message], tools: list[Any] | None, *, ask: bool) -> str:
        """Render these turns with the chat template. `ask` adds the beginning of the assistant's next turn."""
        turns = [self._turn(message) for message in messages]
        rendered: str = self.tokenizer.apply_chat_template(
            turns, tools=tools, tokenize=False, add_generation_prompt=ask
        )
        return rendered

    @cached_property
    def reasoning_key(self) -> str | None:
        """Return the chat template's name for an answer's reasoning, or None if it renders none."""
        asked = {"role": "user", "content": "a"}
        for key in REASONING_KEYS:
            turns = [asked, {"role": "assistant", "content": "b", key: PROBE}]
            try:
                text = self.tokenizer.apply_chat_template(turns, tokenize=False)
            except (TemplateError, TypeError, ValueError):
                continue
            if PROBE in text:
                return key
        return None

    def decode(self, ids: Sequence[int]) -> str:
        """Decode tokens to text, special tokens included."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def end_of_turn(self, text: str, at: int) -> int:
        """Return the position after the special token that ends a turn at `at`, or `at` if there is none."""
        match = self._ends_turn.match(text, at)
        return match.end() if match else at

    def count_special_tokens(self, text: str) -> None:
        self.num_literal_special_tokens += len(self._typed.findall(text))

    def last_special(self, ids: list[int]) -> int | None:
        """Return the index of the last special token, which ends a turn."""
        return next((index for index in reversed(range(len(ids))) if ids[index] in self._special_ids), None)

    def _piece(self, text: str, *, first: bool) -> list[int]:
        if not text:
            return []
        return self.encode(text, typed=False) if first else self.continuation(text, typed=False)

    def _after_anchor(self, text: str, *, typed: bool = True) -> list[int]:
        return self.encode(ANCHOR + text, typed=typed)[len(self.encode(ANCHOR, typed=typed)) :]

    def _turn(self, message: Message) -> dict[str, Any]:
        turn = message.model_dump(exclude={"weight", "reasoning_content"}, exclude_none=True)
        if message.reasoning_content and self.reasoning_key:
            turn[self.reasoning_key] = self._broken_specials(message.reasoning_content)
        turn.setdefault("content", "")
        turn["content"] = self._broken_specials(turn["content"])
        if turn["role"] == "developer" and "developer" not in str(self.tokenizer.chat_template):
            turn["role"] = "system"
        if message.tool_calls:
            turn["tool_calls"] = [_with_parsed_arguments(call) for call in message.tool_calls]
        return turn

    def _broken_specials(self, text: str) -> str:
        return self._typed.sub(lambda match: match.group()[0] + BREAK + match.group()[1:], text)


def _with_parsed_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """Parse a call's arguments: OpenAI sends JSON in a string, and chat templates expect the object."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def load_tokens(folder: Path) -> Tokens:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingFailed(
            FailureReason.model_unusable, f"The model's tokenizer cannot be loaded: {error}"
        ) from error
    return Tokens(tokenizer)

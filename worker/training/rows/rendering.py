"""Renders a dataset file's rows to tokens and label masks. It does not import torch; see `tokenize`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from app.domain.datasets.container import flaw_in
from app.domain.datasets.conversation import Message, to_messages, tools_of
from app.domain.datasets.formats import Record, RecordFormat, find_format, fits, is_blank, parse_line
from app.domain.datasets.lines import split_lines
from app.domain.datasets.preference import ChatPair, TextPair, to_preference
from app.domain.datasets.problem import Finding
from app.domain.datasets.validation import check_record
from app.domain.jobs.state import FailureReason
from app.domain.jobs.train_on import Reasoning, TrainOn, resolve_train_on
from worker.training.rows.answer_spans import MARK, AnswerSpans, Thought, find_spans, find_thought, marked_span
from worker.training.rows.bad_rows import BadRow, SkippedRows
from worker.training.rows.tokenizer import Tokens
from worker.training.runtime.errors import TrainingFailed

CHUNK_BYTES = 2**18
WRONG_KIND = {
    "sft": ("preference_row", 'The row is a preference, a chosen and a rejected answer, which "sft" cannot use.'),
    "dpo": ("not_a_preference", 'The row has no prompt with a chosen and a rejected answer, which "dpo" needs.'),
}
"""Holds the error for a row of the wrong kind, by objective."""
NO_REASONING = (
    "Rows have reasoning_content, but the model's chat template does not render it, so training.reasoning {!r} is not "
    'possible. Set it to "drop" to train without the reasoning, or move the reasoning into the content.'
)
Piece = tuple[list[int], list[bool]]
"""Holds tokens, and which of them carry loss."""


@dataclass(frozen=True)
class Row:
    """Holds one row's tokens. `labelled[i]` says whether token i carries loss. `line` is the row's line in its file."""

    line: int
    ids: NDArray[np.int32]
    labelled: NDArray[np.bool_]


class TextPart(NamedTuple):
    """Describes a part of a rendered conversation, which begins where the previous part ends."""

    end: int
    loss: bool
    is_answer: bool


@dataclass
class Rendered:
    """Holds a file's rows and counts of what happened to the other rows."""

    rows: list[Row] = field(default_factory=list)
    num_rows: int = 0
    """Counts all rows that are not blank."""
    num_dropped: int = 0
    num_truncated: int = 0
    num_unstable: int = 0
    num_endless: int = 0
    num_reasoning: int = 0
    num_unrendered_reasoning: int = 0
    num_unrendered_names: int = 0
    uses_template: bool = False
    turn_ends: set[int] = field(default_factory=set)
    """Holds the special tokens that end an answer."""


class Renderer:
    def __init__(
        self,
        tokens: Tokens,
        train_on: TrainOn,
        max_seq_len: int,
        objective: str = "sft",
        reasoning: Reasoning = "train",
    ):
        self._tokens, self._asked, self._max_seq_len = tokens, train_on, max_seq_len
        self._train_on, self._reasoning = train_on, reasoning
        self._shows_name: dict[str, bool] = {}
        """Says for each role whether the template renders the names of its turns."""
        self._objective = objective

    def render_file(
        self,
        path: Path,
        *,
        format: RecordFormat | None = None,
        watch: Callable[[], None] = lambda: None,
        skipped: SkippedRows | None = None,
    ) -> Rendered:
        """Render a dataset file. `format` is the dataset's; without it each row is recognized separately. `watch` is
        called before each row and may raise. Bad rows go to `skipped`. Without `skipped` the first bad row raises
        TrainingFailed, and rows without a labelled token are dropped."""
        result = Rendered()
        for number, line in _numbered_rows(path):
            watch()
            result.num_rows += 1
            try:
                self._add_row(number, self._render_row(line, format, result), result, strict=skipped is not None)
            except BadRow as bad:
                if skipped is None:
                    message = f"Row {number} of the dataset: {bad.message}"
                    raise TrainingFailed(FailureReason.dataset_invalid, message) from bad
                skipped.add(number, bad)
        return result

    def _add_row(self, number: int, pieces: list[Piece], result: Rendered, *, strict: bool) -> None:
        """Truncate a row and add it to the result. The answers of a pair are truncated separately; the pair is left out
        if either answer has no labelled token left."""
        limit = self._max_seq_len
        result.num_truncated += any(len(ids) > limit for ids, _ in pieces)
        cut = [(ids[:limit], labelled[:limit]) for ids, labelled in pieces]
        if all(any(labelled[1:]) for _, labelled in cut):
            result.rows += [Row(number, np.array(ids, np.int32), np.array(labels, np.bool_)) for ids, labels in cut]
        elif strict:
            message = f"The row has no labelled token within {self._max_seq_len:,} tokens."
            raise BadRow("no_labelled_tokens", message)
        else:
            result.num_dropped += 1

    def _render_row(self, line: bytes, wanted: RecordFormat | None, result: Rendered) -> list[Piece]:
        """Render a row to one piece, or to the two pieces of a pair."""
        record = _parse_row(line)
        format = wanted or find_format(record)
        if format is None or not fits(record, format):
            code = "missing_key" if format else "unknown_format"
            raise BadRow(code, f"The row's keys do not match {f'the format {format}' if format else 'any format'}.")
        self._train_on = resolve_train_on(self._asked, format)
        if (format is RecordFormat.preference) != (self._objective == "dpo"):
            raise BadRow(*WRONG_KIND[self._objective])
        for finding in check_record(record, format):
            if finding.is_error:
                raise BadRow(finding.code, finding.message)
        if format is RecordFormat.preference:
            return self._render_pair(to_preference(record), result)
        if format is RecordFormat.text:
            return [self._render_text(record["text"])]
        if format is RecordFormat.prompt_completion:
            return [self._render_completion(record["prompt"], record["completion"])]
        return [self._render_conversation(to_messages(record, format), tools_of(record), result)]

    def _render_pair(self, pair: TextPair | ChatPair, result: Rendered) -> list[Piece]:
        """Render the chosen answer and then the rejected one, each with the prompt."""
        if isinstance(pair, TextPair):
            return [self._render_completion(pair.prompt, answer) for answer in pair.answers]
        unstable = result.num_unstable
        since = pair.num_shared
        pieces = [self._render_conversation(turns, pair.tools, result, since=since) for turns in pair.conversations]
        result.num_unstable = min(result.num_unstable, unstable + 1)  # it counts rows
        return pieces

    def _render_conversation(
        self, messages: list[Message], tools: list[Any] | None, result: Rendered, *, since: int | None = None
    ) -> Piece:
        """Render a conversation. Each answer from turn `since` on is labelled; with None, `train_on` chooses the
        answers."""
        result.uses_template = True
        try:
            return self._render_turns(messages, tools, result, since)
        except (TemplateError, TypeError, ValueError) as error:
            raise BadRow("template_refused", f"The chat template rejected the row: {error}") from error

    def _render_text(self, text: str) -> Piece:
        self._tokens.count_special_tokens(text)
        ids = [*self._tokens.bos, *self._tokens.encode(text, typed=True), self._tokens.eos]
        return ids, [True] * len(ids)

    def _render_completion(self, prompt: str, completion: str) -> Piece:
        """Encode prompt and completion separately, as in inference: a prompt's tokens do not depend on its answer."""
        self._tokens.count_special_tokens(prompt + completion)
        asked = self._tokens.bos + self._tokens.encode(prompt, typed=True)
        answer = (self._tokens.continuation if prompt else self._tokens.encode)(completion, typed=True)
        answer = [*answer, self._tokens.eos]
        return asked + answer, [self._train_on == "all"] * len(asked) + [True] * len(answer)

    def _render_turns(
        self, messages: list[Message], tools: list[Any] | None, result: Rendered, since: int | None
    ) -> Piece:
        messages = self._prepare_reasoning(messages)
        for message in messages:
            self._tokens.count_special_tokens((message.content or "") + (message.reasoning_content or ""))
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if since is not None:
            answers = [index for index in answers if index >= since]
        elif self._train_on == "completion":
            answers = [index for index in answers if messages[index].weight == 1][-1:]
        if self._train_on != "all":
            messages = messages[: answers[-1] + 1]
        found = find_spans(self._tokens, messages, tools, answers)
        result.num_unstable += not found.is_stable
        if self._train_on == "all" and any(messages[index].weight == 0 for index in set(answers) - found.spans.keys()):
            return [], []  # it is unknown which tokens must not be learned
        result.num_unrendered_names += self._count_unrendered_names(found.whole, messages, tools)
        thoughts = self._find_thoughts(found.whole, messages, tools, result)
        return self._encode_parts(found.whole, self._split_text(found, messages, thoughts), result)

    def _prepare_reasoning(self, messages: list[Message]) -> list[Message]:
        """Return the turns for the template. Raises TrainingFailed if they have reasoning that the template does not
        render."""
        if not any(message.reasoning_content for message in messages):
            return messages
        if self._reasoning == "drop":
            return [message.model_copy(update={"reasoning_content": None}) for message in messages]
        if self._tokens.reasoning_key is None:
            raise TrainingFailed(FailureReason.reasoning_not_rendered, NO_REASONING.format(self._reasoning))
        return messages

    def _find_thoughts(
        self, whole: str, messages: list[Message], tools: list[Any] | None, result: Rendered
    ) -> dict[int, Thought]:
        thoughts = dict[int, Thought]()
        for index in (index for index, message in enumerate(messages) if message.reasoning_content):
            thought = find_thought(self._tokens, whole, messages, tools, index)
            result.num_reasoning += 1
            result.num_unrendered_reasoning += thought is None
            if thought is not None:
                thoughts[index] = thought
        return thoughts

    def _count_unrendered_names(self, whole: str, messages: list[Message], tools: list[Any] | None) -> int:
        named = [index for index, message in enumerate(messages) if message.name]
        for index in named:
            role = messages[index].role
            if role not in self._shows_name:
                span = marked_span(self._tokens, whole, messages, tools, index, {"name": MARK})
                self._shows_name[role] = span is not None
        return sum(not self._shows_name[messages[index].role] for index in named)

    def _split_text(self, found: AnswerSpans, messages: list[Message], thoughts: dict[int, Thought]) -> list[TextPart]:
        """Split the text into parts with and without loss: prompts, answers, and reasoning that is only context."""
        is_all, parts = self._train_on == "all", list[TextPart]()
        for index, (start, end) in found.spans.items():
            thought = thoughts.get(index)
            begin = min(start, thought.start) if thought else start
            parts.append(TextPart(begin, is_all, is_answer=False))
            if thought and self._reasoning == "context":
                parts.append(TextPart(max(thought.end, begin), loss=False, is_answer=False))
            parts.append(TextPart(end, messages[index].weight == 1, is_answer=True))
        return [*parts, TextPart(len(found.whole), is_all, is_answer=False)]

    def _encode_parts(self, whole: str, parts: list[TextPart], result: Rendered) -> Piece:
        """Encode each part separately. An answer's labels end with the special token that ends its turn: text that the
        template writes after it (for example a newline) is never generated."""
        ids: list[int] = []
        labelled: list[bool] = []
        start = 0
        for part in parts:
            piece = self._tokens.encode_rendered(whole[start : part.end], first=start == 0)
            start = part.end
            ids += piece
            cut = len(piece)
            if part.is_answer:
                last = self._tokens.last_special(piece)
                if last is None:
                    result.num_endless += 1
                else:
                    result.turn_ends.add(piece[last])
                    cut = last + 1
            labelled += [part.loss] * cut + [self._train_on == "all"] * (len(piece) - cut)
        return ids, labelled


def _numbered_rows(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(split_lines(iter(lambda: file.read(CHUNK_BYTES), b"")), start=1):
            if not is_blank(line):
                yield number, line


def _parse_row(line: bytes) -> Record:
    if flaw := flaw_in(line):
        raise BadRow(*flaw)
    record = parse_line(line)
    if isinstance(record, Finding):
        raise BadRow(record.code, record.message)
    return record

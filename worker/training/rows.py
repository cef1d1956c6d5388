"""The rows of a training: rendered, split, and what happened to them told as events."""

import random
from dataclasses import dataclass

from app.domain.event import DatasetPrepared, Warned
from app.domain.job import FailureReason
from worker.training.channel import Channel
from worker.training.failure import TrainingFailed
from worker.training.packing import Example
from worker.training.protocol import Happened, Request
from worker.training.rendering import Rendered, Renderer
from worker.training.tokens import Tokens


@dataclass
class Rows:
    training: list[Example]
    validation: list[Example]
    chat_template: str | None
    turn_ends: frozenset[int]
    """Special tokens that end an answer."""


def prepare_rows(request: Request, tokens: Tokens, channel: Channel) -> Rows:
    training = request.spec.training
    assert not isinstance(training.max_seq_len, str)
    renderer = Renderer(tokens, training.train_on, training.max_seq_len)

    rendered = renderer.render_file(request.dataset_path, watch=channel.raise_if_stopped)
    if not rendered.examples:
        raise TrainingFailed(
            FailureReason.no_labelled_tokens,
            f"None of the {rendered.num_dropped:,} rows has a token to learn from within {training.max_seq_len:,} "
            "tokens; raise max_seq_len or shorten the prompts.",
        )
    kept, held_back = split(rendered.examples, request.spec.validation_split, training.seed)
    if request.validation_path:
        held_back = renderer.render_file(request.validation_path, watch=channel.raise_if_stopped).examples
        if not held_back:
            raise TrainingFailed(
                FailureReason.dataset_invalid, "No row of the validation dataset has a token to judge."
            )
    template = tokens.template_name if rendered.uses_template else None
    _tell_rows(rendered, kept, held_back, template, channel)
    _warn_of_rows(rendered, tokens, training.max_seq_len, channel)
    return Rows(kept, held_back, template, frozenset(rendered.turn_ends))


def split(examples: list[Example], share: float | None, seed: int) -> tuple[list[Example], list[Example]]:
    """Training rows and the validation rows that the seed draws from them: at least one, and never all."""
    if share is None:
        return examples, []
    if len(examples) < 2:
        raise TrainingFailed(
            FailureReason.dataset_invalid, "validation_split needs at least two usable rows, and there is one."
        )
    count = min(max(1, round(share * len(examples))), len(examples) - 1)
    drawn = set(random.Random(f"{seed}:validation").sample(range(len(examples)), count))
    return (
        [example for index, example in enumerate(examples) if index not in drawn],
        [example for index, example in enumerate(examples) if index in drawn],
    )


def _tell_rows(
    rendered: Rendered, kept: list[Example], held_back: list[Example], template: str | None, channel: Channel
) -> None:
    prepared = DatasetPrepared(
        num_rows=len(kept),
        num_validation_rows=len(held_back),
        num_dropped_rows=rendered.num_dropped,
        num_truncated_rows=rendered.num_truncated,
        num_tokens=sum(len(example.ids) for example in kept),
        num_labelled_tokens=sum(example.num_labelled for example in kept),
        chat_template=template,
    )
    channel.say(Happened(event=prepared))


def _warn_of_rows(rendered: Rendered, tokens: Tokens, max_seq_len: int, channel: Channel) -> None:
    facts = {
        "rows_dropped": (rendered.num_dropped, "rows have no token to learn from and are left out"),
        "rows_truncated": (rendered.num_truncated, f"rows are longer than {max_seq_len:,} tokens and are cut"),
        "unstable_template": (
            rendered.num_unstable,
            "rows render otherwise turn by turn than as a whole; only their last answer is learned, if any",
        ),
        "no_end_of_turn": (
            rendered.num_endless,
            "answers end without a special token, so that the model does not learn to stop after them",
        ),
        "special_tokens_in_content": (
            tokens.num_typed_specials,
            "special tokens are written in the rows' content; they are read as plain text",
        ),
    }
    for code, (count, text) in facts.items():
        if count:
            warn(channel, code, f"{count:,} {text}.")


def warn(channel: Channel, code: str, text: str) -> None:
    channel.say(Happened(event=Warned(code=code, text=text)))

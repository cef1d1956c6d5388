"""Decides which tokens of a row carry loss, and resolves `auto`."""

from typing import Final, Literal

from app.domain.datasets.formats import RecordFormat

TrainOn = Literal["auto", "completion", "assistant", "all"]
Reasoning = Literal["train", "context", "drop"]
CONVERSATIONS: Final = (RecordFormat.messages, RecordFormat.sharegpt)


def resolve_train_on(asked: TrainOn, format: RecordFormat | None) -> TrainOn:
    """Resolve `auto` by the dataset's format: every answer of a conversation, as OpenAI trains it; the completion of a
    prompt; all of a text. Without a format it stays `auto`, and each row is resolved separately."""
    if asked != "auto" or format is None:
        return asked
    if format in CONVERSATIONS:
        return "assistant"
    return "all" if format is RecordFormat.text else "completion"

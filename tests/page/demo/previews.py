"""Enters a preview as a row, with tokens as a chat model's tokenizer would show them."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.db.tables import DatasetCheck
from app.domain.dataset_checks.preview import PreviewRow, PreviewSpec, PreviewToken, PreviewTotals
from app.domain.dataset_checks.state import DatasetCheckKind, DatasetCheckState
from app.domain.ids import new_id

PIECE = re.compile(r"<\|im_(?:start|end)\|>|\n|\d| ?[A-Za-z]{1,7}|'[a-z]+| ?[^\sA-Za-z\d]| ")
SHOWN_ROWS = 5


def add_preview(session: Session, project_id: str, dataset_id: str, lines: bytes, now: datetime) -> str:
    """Add a ready preview of the first rows of a dataset of conversations; return its id."""
    rows = [json.loads(line) for line in lines.splitlines()]
    asked = PreviewSpec(base_model="qwen3-4b", rows=SHOWN_ROWS, batch_size=8)
    shown = [preview_row(line, row["messages"]) for line, row in enumerate(rows[:SHOWN_ROWS], start=1)]
    check = DatasetCheck(
        id=new_id("preview"),
        project_id=project_id,
        dataset_id=dataset_id,
        kind=DatasetCheckKind.preview,
        state=DatasetCheckState.ready,
        asked=asked.model_dump(mode="json"),
        totals=totals(len(rows)).model_dump(mode="json"),
        shown=[row.model_dump(mode="json") for row in shown],
        attempt=1,
        created_at=now - timedelta(minutes=52),
        finished_at=now - timedelta(minutes=52) + timedelta(seconds=7),
    )
    session.add(check)
    return check.id


def preview_row(line: int, messages: Sequence[dict[str, str]]) -> PreviewRow:
    tokens = list(tokens_of(messages))
    return PreviewRow(
        line=line,
        answer=None,
        text="".join(token.text for token in tokens),
        num_tokens=len(tokens),
        num_labelled_tokens=sum(token.labelled for token in tokens),
        num_truncated_tokens=0,
        truncated_text="",
        dropped=False,
        in_validation_split=False,
        tokens=tokens,
        num_omitted_tokens=0,
    )


def tokens_of(messages: Sequence[dict[str, str]]) -> Iterator[PreviewToken]:
    """Yield the tokens of a conversation in ChatML. The assistant's turns carry loss, with the token that ends them."""
    for message in messages:
        is_answer = message["role"] == "assistant"
        yield from pieces(f"<|im_start|>{message['role']}\n", labelled=False)
        yield from pieces(f"{message['content']}<|im_end|>", labelled=is_answer)
        yield from pieces("\n", labelled=False)


def pieces(text: str, *, labelled: bool) -> Iterator[PreviewToken]:
    for piece in PIECE.findall(text):
        id = {"<|im_start|>": 151_644, "<|im_end|>": 151_645, "\n": 198}.get(piece)
        yield PreviewToken(id=id or sum(map(ord, piece)) * 37 % 120_000 + 300, text=piece, labelled=labelled)


def totals(num_rows: int) -> PreviewTotals:
    num_tokens = num_rows * 118
    values: dict[str, Any] = {
        "chat_template": "the model's tokenizer",
        "max_seq_len": 2048,
        "train_on": "assistant",
        "num_rows": num_rows,
        "num_validation_rows": 0,
        "num_dropped_rows": 0,
        "skipped_rows": {},
        "num_truncated_rows": 3,
        "num_tokens": num_tokens,
        "num_labelled_tokens": int(num_tokens * 0.41),
        "num_template_mismatch_rows": 0,
        "num_answers_without_end_token": 0,
        "num_literal_special_tokens": 0,
        "num_reasoning_turns": 0,
        "num_unrendered_reasoning": 0,
        "num_unrendered_names": 0,
        "steps_per_epoch": num_rows // 8,
        "micro_batches_per_step": 1.0,
        "max_micro_batches_per_step": 1,
        "num_packed_tokens": num_tokens,
        "num_padded_tokens": int(num_tokens * 1.38),
        "padding_saved_share": 0.275,
        "device_plan": {
            "worker": "atlas-1-2214",
            "device": "cuda",
            "device_name": "NVIDIA GeForce RTX 4090",
            "micro_batch_tokens": 16_384,
        },
    }
    return PreviewTotals.model_validate(values)

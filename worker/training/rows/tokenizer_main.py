"""Runs the tokenizing process: `python -m worker.training.rows.tokenizer_main`, a child of the training process.

It reads the same messages as the training process, writes its output to files below the attempt's folder, sends
`Tokenized`, writes the tokenizer's files for the result, and ends. To stop it, the training process kills it.
"""

import os
import sys
from pathlib import Path

# None in `sys.modules` makes Python report that a module does not exist. transformers then works without torch, whose
# import would take 200 MB and more time than all other imports.
sys.modules["torch"] = None  # type: ignore[assignment]
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"

from worker.training.runtime.fast_imports import fast_imports  # noqa: E402

with fast_imports():
    from app.domain.jobs.state import FailureReason
    from app.files import print_trace
    from worker.training.rows.tokenize import save_tokenizer, tokenize
    from worker.training.rows.tokenizer import Tokens, load_tokens
    from worker.training.runtime.channel import Channel, enter_work_dir
    from worker.training.runtime.errors import TrainingFailed, internal_failure
    from worker.training.runtime.messages import Failed, Preload, Ready, TrainingRequest

LEAST_PRIORITY = 19


def main() -> int:
    channel = Channel()
    folder: Path | None = None
    tokens: Tokens | None = None
    try:
        while isinstance(message := channel.receive(), Preload):
            folder, tokens = message.base_model_path, _find_tokens(message.base_model_path)
            channel.send(Ready(base_model_path=folder if tokens else None))
        if isinstance(message, TrainingRequest):
            enter_work_dir(message)
            if tokens is None or folder != message.base_model_path:
                tokens = load_tokens(message.base_model_path)
            channel.send(tokenize(message, tokens, channel.pulse("the tokenization of the dataset")))
            os.nice(LEAST_PRIORITY)  # the training's first steps have priority
            save_tokenizer(message, tokens)
    except Exception as error:
        print_trace()
        channel.send(_failure(error))
        return 1
    return 0


def _find_tokens(folder: Path | None) -> Tokens | None:
    """Load the tokenizer, or return None if it cannot be loaded: a job on this model reports the error."""
    if folder is None:
        return None
    try:
        return load_tokens(folder)
    except Exception:
        print_trace()
        return None


def _failure(error: Exception) -> Failed:
    if isinstance(error, TrainingFailed):
        return Failed(reason=error.reason, message=error.message)
    if isinstance(error, MemoryError):
        return Failed(
            reason=FailureReason.out_of_memory,
            message="Tokenizing ran out of memory. The dataset has too many rows.",
        )
    return internal_failure(error)


if __name__ == "__main__":
    sys.exit(main())

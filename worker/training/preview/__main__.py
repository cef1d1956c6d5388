"""Runs the previewing process: `python -m worker.training.preview`, a child of a light worker. See `messages`.

A chat template is a program that comes with a model. It runs here without credentials, within limits, and in a process
that can fail without an effect on the worker.
"""

import errno
import os
import sys
from pathlib import Path

# As in `tokenizer_main`: without torch the imports are quick, and the light worker's image has no torch.
sys.modules["torch"] = None  # type: ignore[assignment]
os.environ |= {
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HOME": str(Path.cwd()),
}

from app.files import print_trace  # noqa: E402
from worker.rlimits import DISK_FULL, FILE_TOO_LARGE, OUT_OF_MEMORY, limit_self  # noqa: E402
from worker.training.preview.messages import ANSWER, PreviewAnswer, PreviewRefused, PreviewRequest  # noqa: E402
from worker.training.preview.preview import preview  # noqa: E402
from worker.training.rows.tokenizer import load_tokens  # noqa: E402
from worker.training.runtime.errors import TrainingFailed  # noqa: E402
from worker.training.runtime.messages import Failed  # noqa: E402


def main() -> int:
    request = PreviewRequest.model_validate_json(sys.stdin.buffer.readline())
    limit_self(request.memory_bytes, request.cpu_seconds, request.max_file_bytes)
    answer: PreviewAnswer | PreviewRefused
    try:
        try:
            answer = preview(request, load_tokens(request.job.base_model_path))
        except TrainingFailed as error:
            answer = PreviewRefused(failed=Failed(reason=error.reason, message=error.message))
        Path(ANSWER).write_text(answer.model_dump_json(), encoding="utf-8")
    except MemoryError:
        print_trace()
        return OUT_OF_MEMORY
    except OSError as error:
        print_trace()
        return error.errno if error.errno in (FILE_TOO_LARGE, DISK_FULL, OUT_OF_MEMORY) else errno.EIO
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Run the training process: `python -m worker.training`. `runtime.messages` describes its messages."""

import logging
import os
import sys
from collections.abc import MutableMapping

from app.files import print_trace
from worker.training.rows.tokenizer_process import TokenizingProcess
from worker.training.runtime.channel import Channel, enter_work_dir
from worker.training.runtime.fast_imports import fast_imports
from worker.training.runtime.messages import Failed, Preload, Ready, TrainingRequest

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # CUDA's products are not deterministic without it
}
SPINS = "1000"
"""Sets how often an OpenMP thread polls before it sleeps. The default, 300,000, made training four times slower on two
cores that other processes used too. libgomp itself chooses 1,000 on oversubscribed machines."""
KERNELS = "96"
"""Limits the kernels that oneDNN caches. Each is made for one shape of a product and takes half a megabyte. A
micro-batch uses about 60, and the next micro-batch uses others; the default, 1,024, held 100 MB of kernels that were
not used again."""

ALLOCATOR = "expandable_segments:True"
"""Sets how torch allocates a GPU's memory. Every micro-batch has other sizes, and blocks of a fixed size would leave
gaps."""


def main() -> int:
    """Import everything before the request is read, so that a standby process is ready for one."""
    channel = Channel()
    tokenizing: TokenizingProcess | None = None
    set_up(os.environ)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports optional kernels that it lacks
    try:
        tokenizing = TokenizingProcess()  # so that its imports run at the same time as ours
        with fast_imports():
            from worker.training.lean_imports import import_libraries

            import_libraries()  # before any other module imports them
            from transformers.utils import logging as transformers_logging

            from worker.training.loop.training_loop import train
            from worker.training.preload import import_architecture

        transformers_logging.disable_progress_bar()
        while isinstance(message := channel.receive(), Preload):
            if message.base_model_path is not None:
                import_architecture(message.base_model_path)
            channel.send(Ready(base_model_path=tokenizing.preload(message.base_model_path)))
        if isinstance(message, TrainingRequest):
            enter_work_dir(message)
            if not tokenizing.is_alive():  # the system may have killed it during a long wait
                tokenizing.close()
                tokenizing = TokenizingProcess()
            train(message, channel, tokenizing)
    except Exception as error:
        print_trace()
        channel.send(_failure(error))
        return 1
    finally:
        if tokenizing is not None:
            tokenizing.close()
    return 0


def set_up(environ: MutableMapping[str, str]) -> None:
    """Set the environment before torch is imported, which reads it once. The user's own allocator settings are kept."""
    environ.update(OFFLINE)
    environ.setdefault("GOMP_SPINCOUNT", SPINS)
    environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    if "PYTORCH_CUDA_ALLOC_CONF" not in environ:  # its older name
        environ.setdefault("PYTORCH_ALLOC_CONF", ALLOCATOR)


def _failure(error: Exception) -> Failed:
    from app.domain.jobs.state import FailureReason
    from worker.training.model.out_of_memory import is_out_of_memory
    from worker.training.runtime.errors import TrainingFailed, internal_failure

    if isinstance(error, TrainingFailed):
        return Failed(reason=error.reason, message=error.message)
    if is_out_of_memory(error):
        return Failed(
            reason=FailureReason.out_of_memory,
            message="The training ran out of memory. Set gradient_checkpointing to true, lower max_seq_len or the "
            'adapter\'s rank, or use the method "qlora".',
        )
    return internal_failure(error)


if __name__ == "__main__":
    sys.exit(main())

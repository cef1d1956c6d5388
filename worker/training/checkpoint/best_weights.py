"""Holds the weights of the best evaluation during the training."""

import errno
import logging
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from worker.training.checkpoint import checkpoint
from worker.training.checkpoint.checkpoint import SPARED_BYTES, Weights, on_cpu, require_disk_space
from worker.training.checkpoint.tensor_file import write_tensors

log = logging.getLogger(__name__)


def hold_weights(trainable: dict[str, nn.Parameter], folder: Path) -> Weights:
    """Copy the weights to the CPU: in memory or, for a full fine-tune, mapped from an unlinked file, which uses disk
    space as long as the copy is held. The copy is held in memory if the disk is full."""
    num_bytes = sum(parameter.nbytes for parameter in trainable.values())
    if num_bytes <= checkpoint.COPIED_BYTES:
        return on_cpu(trainable)
    path = folder / "best.safetensors"
    try:
        require_disk_space(folder, num_bytes + SPARED_BYTES)
        write_tensors(path, trainable)
        return load_file(path)
    except OSError as error:
        reason = error.strerror or errno.errorcode.get(error.errno or 0)
        log.warning("Could not write the best weights to disk; keeping them in memory: %s", reason)
        return on_cpu(trainable)
    finally:
        path.unlink(missing_ok=True)

"""A process that holds secrets keeps its memory and its environment from others of its user."""

import ctypes
import os
import sys

PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """Other processes of the same user can no longer read this one's environment, memory or open files, nor trace it;
    root's still can. It lasts until the next exec, so that each program calls it when it starts, and what it starts is
    not covered. Linux alone has it."""
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "prctl(PR_SET_DUMPABLE)")

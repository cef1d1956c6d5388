"""Protects the memory and the environment of a process that holds secrets from other processes of its user."""

import ctypes
import os
import sys

PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """Prevent that other processes of the same user read this one's environment, memory or open files, or trace it;
    root still can. It lasts until the next exec, so each program calls it when it starts, and it does not cover the
    programs that it starts. Only Linux supports it."""
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "prctl(PR_SET_DUMPABLE)")

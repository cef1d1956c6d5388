"""What a full disk looks like to those who write to it."""

import errno


def is_full(error: BaseException) -> bool:
    """Libraries in other languages tell it in words alone."""
    told = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return told or "No space left on device" in str(error)

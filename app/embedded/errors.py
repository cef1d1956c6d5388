class StartError(Exception):
    """The stack or one of its servers cannot run; the message is the one line the operator reads."""


class StopRequested(Exception):  # noqa: N818 - no error, an answer
    """SIGINT, SIGTERM or SIGHUP arrived."""

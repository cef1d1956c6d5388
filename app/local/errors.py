class StartError(Exception):
    """The stack or one of its servers cannot run; the message is the one line the operator reads."""


class StopRequested(Exception):
    """SIGINT, SIGTERM or SIGHUP arrived."""

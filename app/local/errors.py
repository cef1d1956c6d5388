class StartError(Exception):
    """Reports that the stack or one of its servers cannot run. The message is the one line that the operator reads."""


class StopRequested(Exception):
    """Reports that SIGINT, SIGTERM or SIGHUP arrived."""

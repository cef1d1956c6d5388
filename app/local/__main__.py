"""`python -m app.local` runs the local stack in the foreground, until ctrl-C."""

import argparse
import errno
import sys
from pathlib import Path
from typing import Any

from app.local.signals import block_signals


def main() -> int:
    block_signals()
    parser = argparse.ArgumentParser(prog="tunewright up", description="Run the local stack until Ctrl-C.")
    parser.add_argument("--data-dir", type=Path, help="data folder (TUNEWRIGHT_DATA_DIR)")
    parser.add_argument("--host", help="address to listen on (TUNEWRIGHT_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 selects a free one (TUNEWRIGHT_PORT)")
    flags = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    return run(flags)


def run(flags: dict[str, Any]) -> int:
    # Import after the signals are blocked, so that an early ctrl-C also ends in order.
    from pydantic import ValidationError

    from app.local.errors import StartError, StopRequested
    from app.local.stack import run_stack
    from app.secrets.private_memory import keep_memory_private
    from app.settings import Settings

    keep_memory_private()
    try:
        run_stack(Settings(**flags))
    except StopRequested:
        return 0
    except StartError as error:
        return print_error(str(error))
    except ValidationError as error:
        return print_error("; ".join(f"setting {problem['loc'][0]}: {problem['msg']}" for problem in error.errors()))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return print_error(f"the disk is full: {error}")
    return 0


def print_error(line: str) -> int:
    print(f"tunewright: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

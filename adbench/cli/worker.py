"""A worker process of the executor `local`: it runs one task message after the other from its stdin."""

import json
import logging
import os
import sys
from queue import SimpleQueue
from threading import Thread

from adbench.cli import console
from adbench.core.errors import AdbenchError


def main() -> None:
    """Run task messages, one per line, until stdin closes; then end at once, because the parent has finished or died."""
    console.set_up(verbose="--verbose" in sys.argv)
    logging.getLogger("adbench.data").setLevel(logging.ERROR)  # the parent has said what was passed over
    messages: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_receive, args=(messages,), daemon=True).start()
    from adbench.sweep.workers import run_task

    try:
        while True:
            for _ in run_task(json.loads(messages.get())):
                pass
    except AdbenchError as error:
        console.error(str(error))
        raise SystemExit(error.exit_code) from None


def _receive(messages: "SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        if line.endswith(b"\n"):  # otherwise the parent died while writing it
            messages.put(line)
    os._exit(1)


if __name__ == "__main__":
    main()

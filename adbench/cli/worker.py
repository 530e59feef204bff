"""A worker process of the executor local: carries out one order after the other from its stdin, which the parent keeps open."""

import json
import os
import sys
from queue import SimpleQueue
from threading import Thread

from adbench.cli import console
from adbench.core.errors import AdbenchError


def main() -> None:
    """Run orders, one a line, until stdin closes: then end at once, as the parent is done or gone, however it went."""
    console.set_up(verbose="--verbose" in sys.argv)
    orders: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_receive, args=(orders,), daemon=True).start()
    from adbench.sweep.task_messages import run_task

    try:
        while True:
            for _ in run_task(json.loads(orders.get())):
                pass
    except AdbenchError as error:
        console.error(str(error))
        raise SystemExit(error.exit_code) from None


def _receive(orders: "SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        if line.endswith(b"\n"):  # else the parent died while it spoke
            orders.put(line)
    os._exit(1)


if __name__ == "__main__":
    main()

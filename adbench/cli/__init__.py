"""The command line. Each command reads its options, calls one function of the package, and prints the answer."""

import gc

from adbench.core.pages import started_as, use_huge_pages


def main(arguments: list[str] | None = None) -> None:
    """Run the command line with these arguments (default: those of the process) and end with the documented exit code."""
    if arguments is None and started_as("adbench"):
        use_huge_pages()
    from adbench.cli.app import run  # here, so that a worker process does not import every command

    try:
        run(arguments)
    finally:
        if arguments is None:
            gc.freeze()  # at its end the interpreter would look for cycles among all objects of torch, which takes seconds

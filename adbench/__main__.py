"""`python -m adbench`."""

from adbench.cli import main

main()

"""``python -m convax`` is the command line."""

from convax.cli import main

main()

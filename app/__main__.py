"""``python -m convax``, and the command ``convax``."""

import signal


def main() -> None:
    """Run the command line; until training begins there is nothing to save, and Ctrl-C ends it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from convax.cli.main import main as run

    run()


if __name__ == "__main__":
    main()

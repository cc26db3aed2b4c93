"""``python -m PASTALib`` is the command ``pasta``."""

from .cli import main

if __name__ == "__main__":
    main()

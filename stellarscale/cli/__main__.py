"""``python -m stellarscale.cli`` is the program."""

from __future__ import annotations

from stellarscale.cli import main

if __name__ == "__main__":
    main()

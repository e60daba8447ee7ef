"""``python -m embstore``."""

from .cli import main

main()

"""``python -m nasneck``."""

from nasneck.cli import main

main()

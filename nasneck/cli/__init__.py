"""The command line."""

from nasneck.cli.main import main as main

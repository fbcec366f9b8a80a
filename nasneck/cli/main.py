"""``nasneck``: one line per mistake on standard error, exit status 2, and no traceback.

Commands import what they need when they run, so that ``nasneck --help`` does not wait for torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from nasneck.cli import commands
from nasneck.errors import NasneckError

# Newer versions of typer carry a click of their own, so click's base class of errors is found through typer.
_ClickError: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    name="nasneck",
    help="Search, compare and export pyramid necks of object detectors.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Data sets in COCO format.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

app.command("list")(commands.list_)
app.command("show")(commands.show)
app.command("search")(commands.search)
app.command("status")(commands.status)
app.command("study")(commands.study)
app.command("confirm")(commands.confirm)
app.command("compare")(commands.compare)
app.command("export")(commands.export)
data.command("shapes")(commands.shapes)
data.command("check")(commands.check)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(_run(args))


def _run(args: list[str] | None) -> int:
    sys.path.append(str(Path.cwd()))  # for search spaces that are functions of the user's
    try:
        result: Any = app(args, standalone_mode=False)
    except NasneckError as error:
        return _fail(str(error))
    except _ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # the whole help
            return 2
        return _fail(error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        print("nasneck: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; python would complain on exit
        return 0
    return result if isinstance(result, int) else 0


def _fail(message: str) -> int:
    print(f"nasneck: error: {' '.join(message.split())}", file=sys.stderr)
    return 2

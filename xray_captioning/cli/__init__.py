"""The command line: one module for each group of commands, imported when its command runs."""

import importlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from xray_captioning import __version__
from xray_captioning.errors import XrayCaptioningError
from xray_captioning.files import begin, load_as_program, read_toml

COMPLETE = "_XRAY_CAPTIONING_COMPLETE"
SHOWN = 3  # warnings of one kind about images
COMMANDS: dict[str, list[str]] = read_toml(__file__, "commands.toml")


class _LazyGroup(click.Group):
    """Lists commands without importing what they need, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module, _ = COMMANDS.get(cmd_name, ("", ""))
        name = cmd_name.replace("-", "_")
        return getattr(importlib.import_module(f"xray_captioning.cli.{module}"), name) if module else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="xray-captioning")
def cli() -> None:
    """Write the findings or impression of a chest X-ray, and measure honestly how well.

    For research and teaching; not for clinical use.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command with these arguments, or those of the process.

    Returns 0; 2 after one line on standard error that says what is wrong; or 130 when interrupted.
    """
    if completing := os.environ.get(COMPLETE):  # the shell asks, as click's documentation shows
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "xray-captioning", COMPLETE, completing)
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    load_as_program()
    begin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a user cannot act on the warnings of other packages
        warnings.filterwarnings("always", module="xray_captioning")
        told = _Warnings()
        warnings.showwarning = told.show
        try:
            return _run(given)
        except (KeyboardInterrupt, click.Abort):  # the latter at a question
            resumable = given[:1] in (["train"], ["train-encoder"]) or (given[:1] == ["caption"] and "--out" in given)
            return _said(f"interrupted{'; go on with the same command and --resume' * resumable}", 130)
        except BrokenPipeError:  # the reader of a pipe has gone; Python would complain at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
        except (click.ClickException, XrayCaptioningError, OSError) as error:
            return _said(_message(error), 2)
        except MemoryError:
            return _said("the memory is used up; take smaller batches or images", 2)
        finally:
            told.close()


def _run(arguments: list[str]) -> int:
    # Click's own main does the same, but adds an empty line to an interrupt, takes the end of a
    # file for an interrupt, and exits with 1 when the reader of a pipe has gone.
    try:
        with cli.make_context("xray-captioning", arguments) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:  # --help and --version
        return done.exit_code
    finally:
        sys.stdout.flush()
    return 0


def _said(text: str, status: int) -> int:
    print(f"xray-captioning: {' '.join(text.split())}", file=sys.stderr)
    return status


def _message(error: Exception) -> str:
    """Say what is wrong, with the command line or with a file, and what to do."""
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "xray-captioning"
        return f"{error.format_message().strip().rstrip('.')}; see {path} --help"
    if not isinstance(error, OSError):
        return str(error)
    where = error.filename or error.filename2 or "input or output"
    return f"{where}: {error.strerror or str(error)}; check the path, its permissions and the space on the disk"


class _Warnings:
    """Prints warnings; one that is true of many images is printed a few times, then counted."""

    def __init__(self) -> None:
        self._shown: Counter[str] = Counter()
        self._more: Counter[str] = Counter()  # images

    def show(self, message: Warning | str, *_: Any, **__: Any) -> None:
        reason = getattr(message, "reason", None)
        if reason is not None and self._shown[reason] == SHOWN:
            self._more[reason] += getattr(message, "count", 1)
            return
        self._shown[reason or ""] += 1
        _said(f"warning: {message}", 0)

    def close(self) -> None:
        for reason, count in self._more.items():
            _said(f"warning: {count} more image{'s' * (count > 1)}: {reason}", 0)

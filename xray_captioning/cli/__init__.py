"""The command line: one module a group of commands, imported when its command runs."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from xray_captioning import __version__
from xray_captioning.errors import XrayCaptioningError

COMMANDS = {
    "demo": ("demo", "Everything on synthetic phantoms, in about three minutes."),
    "phantom": ("data", "Write synthetic two-view studies in the Kaggle layout."),
    "prepare": ("data", "Say what is there and what is missing, and split it."),
    "train-encoder": ("train", "Teach an encoder to classify findings."),
    "train": ("train", "Teach a decoder to write captions from an encoder's features."),
    "evaluate": ("evaluate", "Score bundles, other systems and baselines on the same studies."),
    "score": ("evaluate", "Score hypotheses against references, one text a line."),
    "caption": ("caption", "Write a caption for images."),
}


class _LazyGroup(click.Group):
    """Lists commands without importing what they need, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"xray_captioning.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="xray-captioning")
def cli() -> None:
    """Write the findings or impression of a chest X-ray, and measure honestly how well.

    For research and teaching; not for clinical use.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process when absent.

    Returns
    -------
    int
        0, or 2 after one line on standard error that says what is wrong, or 130 when
        interrupted.
    """
    warnings.showwarning = _show_warning
    try:
        result = cli.main(
            None if arguments is None else list(arguments),
            prog_name="xray-captioning",
            standalone_mode=False,
        )
    except (KeyboardInterrupt, click.Abort):
        print("xray-captioning: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except click.ClickException as error:
        return _fail(error.format_message())
    except XrayCaptioningError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    return result if isinstance(result, int) else 0


def _fail(message: str) -> int:
    print(f"xray-captioning: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"xray-captioning: warning: {' '.join(str(message).split())}", file=sys.stderr)

"""The command that starts the app."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from xray_captioning.bundles.bundle import find_bundle, read_bundle
from xray_captioning.cli import options
from xray_captioning.errors import ConfigError, require

HOST = "127.0.0.1"
SETTINGS = {
    "server.address": HOST,
    "server.headless": "true",
    "server.maxUploadSize": "64",  # megabytes a file
    "server.enableXsrfProtection": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
    "theme.light.primaryColor": "#0b5cad",  # with enough contrast for text, on both backgrounds
    "theme.dark.primaryColor": "#7cb9f7",
}


@click.command()
@options.declared("app")
@options.seed
def app(bundles: tuple[str, ...], port: int, seed: int | None) -> None:
    """Start the app on this machine, for a browser on this machine.

    --seed chooses the drawn samples.
    """
    for bundle in bundles:
        read_bundle(find_bundle(bundle), "captioner")
    _check_port(port)
    _start(port, _arguments(bundles, seed))


def _arguments(bundles: tuple[str, ...], seed: int | None) -> list[str]:
    """Return what the app's own command line gets."""
    given = [word for bundle in bundles for word in ("--bundle", bundle)]
    return [*given, *([] if seed is None else ["--seed", str(seed)])]


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); choose another: --port"
            ) from error


def _start(port: int, arguments: list[str]) -> None:
    streamlit = require("streamlit.web.cli", "the app", "serve")
    script = str(Path(__file__).parents[1] / "serving" / "app.py")
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    line = ["run", script, f"--server.port={port}", *settings, "--", *arguments]
    streamlit.main(line, standalone_mode=False)

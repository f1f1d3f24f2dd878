"""Commands that serve captions: to programs over HTTP, to people in a browser, and as graphs that run elsewhere."""

import socket
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import click

from xray_captioning.bundles.bundle import MANIFEST, find_bundle, read_bundle
from xray_captioning.cli import options
from xray_captioning.data.opening import is_image
from xray_captioning.errors import ConfigError, require
from xray_captioning.files import read_toml, sha256_file

_LOOPBACK = ("127.", "localhost", "::1")
HOST = "127.0.0.1"
CALIBRATED = 200  # images
SETTINGS: dict[str, str] = {"server.address": HOST, **read_toml(__file__, "app.toml")}


@click.command()
@options.declared("app", "runtime")
@options.seed
def app(bundles: tuple[str, ...], port: int, seed: int | None, runtime: str | None) -> None:
    """Start the app on this machine, for a browser on this machine.

    --seed chooses the drawn samples.
    """
    for bundle in bundles:
        read_bundle(find_bundle(bundle), "captioner", images=True, exported=True)
    _bound(HOST, port, "--port").close()
    own = [("--bundle", bundle) for bundle in bundles]
    own += [(name, str(value)) for name, value in (("--seed", seed), ("--runtime", runtime)) if value is not None]
    streamlit = require("streamlit.web.cli", "the app", "serve")
    script = str(Path(__file__).parents[1] / "serving" / "app.py")
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    line = ["run", script, f"--server.port={port}", *settings, "--", *chain.from_iterable(own)]
    streamlit.main(line, standalone_mode=False)


@click.command()
@options.declared("serve", "runtime")
@options.no_seed
def serve(bundle: str, host: str, port: int, token_file: Path | None, limits: Any, runtime: str | None) -> None:
    """Answer requests for captions over HTTP, and offer a page to upload images on.

    SIGTERM and SIGINT let it finish what it has accepted.
    """
    from xray_captioning.serving.settings import Settings, find_token

    folder = find_bundle(bundle)
    read_bundle(folder, "captioner", images=True, exported=True)
    settings = replace(Settings(), token=find_token(token_file)).replace(limits)
    for package in ("flask", "uvicorn"):
        require(package, "the API", "serve")
    # Before the model is loaded: a wrong address is an error at once.
    sock = _bound(host, port, "--host or --port")
    from xray_captioning.runtime import open_captioner
    from xray_captioning.serving.api import create_app
    from xray_captioning.serving.server import Server

    server = Server(create_app(open_captioner(folder, runtime), settings), sock, settings)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"listening on http://{shown}:{sock.getsockname()[1]} (Ctrl-C ends it)")
    if not host.startswith(_LOOPBACK) and settings.token is None:
        advice = "give --token-file, and a proxy that speaks TLS, see docs/serving.md"
        click.echo(f"note: whoever reaches this address can use it; {advice}", err=True)
    server.run()


def _bound(host: str, port: int, options: str) -> socket.socket:
    sock = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(*found[:3])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(found[4])
    except (OSError, UnicodeError) as error:
        if sock is not None:
            sock.close()
        reason = getattr(error, "strerror", None) or "no such address"
        raise ConfigError(f"{host} port {port}: cannot listen there ({reason}); choose another {options}") from error
    return sock


@click.command()
@options.declared("export-bundle")
@options.no_seed
def export(bundle: str, out: Path, form: str, wasm: str | None, precision: str, images: Path | None) -> None:
    """Write a bundle as graphs that run without TensorFlow, or as a page that runs them in a browser.

    Each graph is compared with the bundle before the folder is whole. caption, serve and app take
    the folder as a --bundle. The page, of --format web, runs the model in its visitor's browser.
    """
    folder = find_bundle(bundle)
    read_bundle(folder, "captioner", images=True, exported=form == "web")
    if wasm is not None and form != "web":
        raise ConfigError("--wasm-dir is for --format web")
    if form == "web":
        from xray_captioning.web.page import write_page

        if precision != "float32" or images:
            raise ConfigError("a page takes graphs as they are; export them with --precision, and give their folder")
        where = write_page(folder, out, wasm)
        click.echo(f"{out}: a page of {folder} for any web server; onnxruntime-web comes from {where}")
        return
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.captioner.export import export_captioner

    captioner, digest = Captioner.load(folder), sha256_file(folder / MANIFEST)
    files = sorted(str(path) for path in images.rglob("*") if is_image(path.name)) if images else []
    export_captioner(captioner, out, form, precision, files[:: -(-len(files) // CALIBRATED) or 1], digest)
    like = "the same as" if precision == "float32" else f"in {precision} like"
    click.echo(f"{out}: {like} {folder}, as {form} graphs")

"""The command that writes a bundle for other runtimes than Keras."""

from pathlib import Path

import click

from xray_captioning.bundles.bundle import MANIFEST, find_bundle, read_bundle
from xray_captioning.cli import options
from xray_captioning.data.opening import is_image
from xray_captioning.errors import ConfigError
from xray_captioning.files import sha256_file

CALIBRATED = 200  # images


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

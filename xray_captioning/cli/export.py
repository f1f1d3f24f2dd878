"""The command that writes a bundle for other runtimes than Keras."""

from pathlib import Path

import click

from xray_captioning.bundles.bundle import MANIFEST, find_bundle, read_bundle
from xray_captioning.cli import options
from xray_captioning.data.opening import is_image
from xray_captioning.files import sha256_file

CALIBRATED = 200  # images


@click.command()
@options.declared("export-bundle")
@options.no_seed
def export(bundle: str, out: Path, form: str, precision: str, images: Path | None) -> None:
    """Write a bundle as graphs that onnxruntime, OpenVINO or LiteRT runs, without TensorFlow.

    Each graph is compared with the bundle before the folder is whole. caption, serve and app take
    the folder as a --bundle.
    """
    folder = find_bundle(bundle)
    read_bundle(folder, "captioner", images=True)
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.captioner.export import export_captioner

    captioner, digest = Captioner.load(folder), sha256_file(folder / MANIFEST)
    files = sorted(str(path) for path in images.rglob("*") if is_image(path.name)) if images else []
    export_captioner(captioner, out, form, precision, files[:: -(-len(files) // CALIBRATED) or 1], digest)
    like = "the same as" if precision == "float32" else f"in {precision} like"
    click.echo(f"{out}: {like} {folder}, as {form} graphs")

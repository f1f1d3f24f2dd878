"""The command that writes a bundle for other runtimes than Keras."""

from pathlib import Path

import click

from xray_captioning.bundles.bundle import MANIFEST, find_bundle, read_bundle
from xray_captioning.cli import options
from xray_captioning.files import sha256_file


@click.command()
@options.declared("export-bundle")
@options.no_seed
def export(bundle: str, out: Path, form: str) -> None:
    """Write a bundle as graphs that onnxruntime or OpenVINO runs, without TensorFlow.

    Each graph is compared with the bundle before the folder is whole. caption, serve and app take
    the folder as a --bundle.
    """
    folder = find_bundle(bundle)
    read_bundle(folder, "captioner", images=True)
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.captioner.export import export_captioner

    captioner, digest = Captioner.load(folder), sha256_file(folder / MANIFEST)
    export_captioner(captioner, out, form, digest)
    click.echo(f"{out}: the same as {folder}, as {form} graphs")

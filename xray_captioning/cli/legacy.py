"""The command that reads the older Keras projects' weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xray_captioning.bundles.bundle import read_bundle
from xray_captioning.cli import options
from xray_captioning.errors import ConfigError

if TYPE_CHECKING:
    from xray_captioning.captioner.captioner import Captioner

NOTICE = (
    "CheXNet sees these images as the older project showed them, not as in its training; for "
    "findings to rely on, import it with --normalisation imagenet."
)


@click.command("import-legacy")
@options.declared("import-legacy")
@options.no_seed
def import_legacy(
    weights: Path,
    tokenizer: Path | None,
    start_word: str | None,
    end_word: str | None,
    out: Path,
    normalisation: str | None,
) -> None:
    """Turn the attention captioner, or CheXNet, into a bundle in --out.

    Nothing in the files is executed. Preprocessing is stored in the bundle.
    """
    if tokenizer is not None and normalisation is not None:
        raise ConfigError(
            "--normalisation is for CheXNet only: the captioner's images are prepared as "
            "published; leave it out, or leave out --tokenizer"
        )
    _check_out(out, "encoder" if tokenizer is None else "captioner")
    if tokenizer is None:
        _import_chexnet(weights, out, normalisation or "unit")
        click.echo(f"encoder in {out}; next: xray-captioning caption --findings --bundle {out} ...")
        return
    from xray_captioning.legacy import load_attention_captioner

    captioner: Captioner = load_attention_captioner(weights, tokenizer, start_word, end_word)
    captioner.save(out)
    click.echo(f"bundle in {out}; next: xray-captioning caption --bundle {out} IMAGE")


def _import_chexnet(weights: Path, out: Path, normalisation: str) -> None:
    from xray_captioning.encoders.saved import save_encoder
    from xray_captioning.legacy import load_chexnet
    from xray_captioning.legacy.keras2 import chexnet_config, describe_import

    encoder = load_chexnet(weights)
    config = chexnet_config(normalisation)
    about = describe_import(config, weights=weights)
    if normalisation == "unit":
        about["notice"] = NOTICE
    save_encoder(out, config, encoder, about)


def _check_out(out: Path, kind: str) -> None:
    from xray_captioning.legacy import SOURCE

    if not out.is_dir() or not any(out.iterdir()):
        return
    if (out / "manifest.json").is_file():
        values = read_bundle(out, "encoder")
        if values["kind"] == kind and values["about"].get("source") == SOURCE:
            return
    raise ConfigError(
        f"{out}: is not empty and holds no {kind} that import-legacy wrote; choose another --out"
    )

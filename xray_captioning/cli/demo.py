"""The command that shows everything."""

from __future__ import annotations

from pathlib import Path

import click

from xray_captioning.cli import options
from xray_captioning.errors import ConfigError


@click.command()
@options.declared("demo")
@options.seed
def demo(out: Path, seed: int | None) -> None:
    """Render phantoms, train on them, caption others, and compare with the baselines."""
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty; choose another folder with --out")

    from xray_captioning.demo import run_demo
    from xray_captioning.evaluation.table import format_table

    rows = run_demo(out, seed or 0, lambda line: click.echo(line, err=True))
    click.echo(format_table(rows))
    click.echo(
        f"\nread BLEU beside the constant caption's, and beside clinical_f1\n"
        f"pictures: {out}/panel.png, {out}/global_attention/curves.png\n"
        f"table:    {out}/metrics.json\n"
        f"captions: {out}/captions.csv\n"
        f"the model: xray-captioning caption --bundle {out}/global_attention "
        f"{out}/phantom/images/images_normalized/900001_IM-0001-1001.dcm.png"
    )

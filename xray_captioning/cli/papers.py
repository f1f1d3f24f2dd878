"""Commands for papers: pictures of what a model saw, and what to cite."""

from pathlib import Path

import click

from xray_captioning.cli import options
from xray_captioning.errors import ConfigError


@click.command()
@click.argument("image")
@options.declared("explain")
@options.no_seed
def explain(image: str, bundle: str, out: Path, views: str | None, beam: int | None, show_unfamiliar: bool) -> None:
    """Draw a study with its caption, and where it shows the findings that the caption names.

    IMAGE is one image, or two of one study joined by a comma: a.png,b.png. Each method has a row, which says how often
    it is right, where that was measured.
    """
    from xray_captioning.captioner.calibration import is_unfamiliar, stated
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.captioner.evidence import explained
    from xray_captioning.cli.caption import named_studies, read_named_bundle
    from xray_captioning.data.images import arranged, known_views
    from xray_captioning.evaluation.cases import example
    from xray_captioning.plots.charts import check_format, save
    from xray_captioning.plots.panels import panel
    from xray_captioning.serving.answers import NOTICE, UNFAMILIAR

    check_format(out, "--out")
    config, named = read_named_bundle(bundle, False).config.image, views.split(",") if views else None
    studies = named_studies([image], config.views, named)
    if len(studies) != 1:
        raise ConfigError(f"{image}: is a folder of {len(studies)} images; name one, or two of one study")
    model, images = Captioner.load(bundle), [path for path in studies[0].images if path]
    seen = known_views(images, named)
    features = model.features([images], [seen])
    caption, _ = stated(model.write_captions(features, beam)[0], None, show_unfamiliar)
    strange = f"{UNFAMILIAR} " if is_unfamiliar(caption) else ""
    known, placed = {"images": images, "views": seen, "reference": None}, arranged(images, config.views, seen)
    plain = example(known, placed, {}, caption, config.size, config.resize, offset=model.offset)
    rows = list(explained(model, features, caption, plain)) or [plain._replace(attention=None)]
    rows[0] = rows[0]._replace(captions={"caption": caption.text, **rows[0].captions})
    rows[-1] = rows[-1]._replace(captions=rows[-1].captions | {"notice": strange + NOTICE})
    save(panel(rows, most=len(caption.words)), out)
    click.echo(f"{out}: {strange}{caption.text or '(nothing)'}")


@click.command()
@click.argument("names", nargs=-1, metavar="[BUNDLE|DATA|NAME ...]")
@options.no_seed
def cite(names: tuple[str, ...]) -> None:
    """Print BibTeX of this software, of the metrics that evaluate computes, and of BUNDLE, DATA or NAME.

    NAME is an encoder (`xray-captioning encoders`) or a collection, such as openi or mimic_cxr. Of a bundle the
    encoder and the data are cited, as far as it knows them.
    """
    from xray_captioning.data.citations import bibtex

    click.echo(bibtex(names), nl=False)

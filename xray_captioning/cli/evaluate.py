"""Commands that measure: by scores, and by what readers say."""

import json
from pathlib import Path
from typing import Any

import click

from xray_captioning.cli import options
from xray_captioning.config import parse_assignment
from xray_captioning.data.studies import with_images
from xray_captioning.evaluation.table import LEFT_OUT, SHOWN, format_table
from xray_captioning.files import atomic_write, read_toml

TEXTS = read_toml(__file__, "texts.toml")
CLINICAL = ("clinical_f1", "micro_f1", "example_f1", "false_positives")


@click.command()
@options.source()
@options.declared("evaluate", "features", "prediction", "only-common", "set", "split", "cache")
@options.engine
@options.seed
def evaluate(source: options.Source, out: Path, bundles: tuple[str, ...], engine: options.Engine, **given: Any) -> None:
    """Score bundles, other systems' texts and baselines on the same studies.

    Without --bundle and --captions the shipped bundle is evaluated; with --protocol only the
    baselines are. References are the section that the first bundle writes; without a bundle, that
    of --set text.section, or the findings where there are no impressions. A warning names each
    system whose captions go as well with other studies, or that is not clearly better than a fixed
    report. p_shuffled is the p value of the permutation test behind it.
    """
    from xray_captioning.comparison.evaluate import check_names, read_systems
    from xray_captioning.comparison.evaluate import evaluate as compare

    files, prediction, assignments, beams = map(given.pop, ("files", "prediction", "assignments", "beams"))
    protocol, report, given["seed"] = given["protocol"], given["report"], given["seed"] or 0
    check_names(changes := dict(map(parse_assignment, assignments)), given["metrics"])
    read = [read_systems(bundles if bundles or files or protocol else [options.DEFAULT], files, prediction)]
    bundled = any(isinstance(one[0] if isinstance(one, list) else one, Path) for one in read[0].values())
    given |= {"changes": changes, "beams": tuple(dict.fromkeys(beams)) or (1, 3)}
    load = source._replace(need_images=bundled and given["features"] is None).load  # here the table would stay
    with engine.spread() as workers:
        written = compare(load, read.pop, out, workers=workers, **given)
    _show(json.loads((out / "metrics.json").read_text("utf-8")), written)
    click.echo(f"results in {out}{f', report in {report}' if report else ''}")


def _show(found: dict[str, Any], written: list[dict[str, Any]]) -> None:
    from xray_captioning.evaluation.baselines import merged_rows
    from xray_captioning.evaluation.claims import beaten
    from xray_captioning.evaluation.report import SAID
    from xray_captioning.metrics import further
    from xray_captioning.plots.images import environment

    shown: dict[str, Any] = {"layout": format_table, "merge": merged_rows, "written": written, "said": list(SAID)}
    shown |= {"columns": [*SHOWN, *([LEFT_OUT] if LEFT_OUT in found else [])], "further": further.present(written[0])}
    shown |= {"spreads": [{"system": name, **own} for name, own in found["spread"].items()]}
    shown |= {"beaten": map(beaten, found["beats_every_baseline"]), "whole": found.get("rows_untruncated", [])}
    click.echo(environment().get_template("cli/evaluation.jinja").render(found, **shown), nl=False)


@click.command()
@options.declared("score", "prediction", "only-common")
@options.no_seed
def score(convention: str | None, **files: Any) -> None:
    """Score hypotheses against references under three protocols; texts split at whitespace.

    Texts are matched by id where both files have ids, and by their order where neither has.
    """
    from xray_captioning.evaluation.matching import read_pairs
    from xray_captioning.metrics.bleu import BLEU_PROTOCOLS
    from xray_captioning.metrics.scores import of_pairs

    systems = list(read_pairs(**files))
    for pairs in systems:
        if len(systems) > 1:
            click.echo(pairs.system)
        texts = list(zip(pairs.references, pairs.hypotheses))
        click.echo(format_table([{"protocol": n, **of_pairs(texts, n), **pairs.counts} for n in BLEU_PROTOCOLS]))
        if convention:
            found = of_pairs(texts, convention=convention)
            click.echo(format_table([{"convention": convention} | {n: found[n] for n in CLINICAL}]))
    click.echo(TEXTS["why"])


@click.group(no_args_is_help=False)
@options.seed
@click.pass_context
def review(context: click.Context, seed: int | None) -> None:
    """Let people rate two systems' texts without knowing which system wrote them."""
    if seed is not None:
        context.default_map = {name: {"seed": seed} for name in ("export", "summarise")}


@review.command()
@options.declared("export")
@options.source("Studies whose images the sheets show.", labels=False)
@options.seed
def export(source: options.Source, out: Path, studies: int, seed: int | None, **drawn: Any) -> None:
    """Write one folder for each reader, and the key.

    The key tells which system wrote which text: no reader may see it.
    """
    from xray_captioning.review.study import export_study

    source.check()
    views: Any = None
    if source.data:
        there = with_images(source.load())
        views = dict(zip(there["study_id"], map(list, map(zip, there["images"], there["views"]))))
    key = export_study(out=out, views=views, studies=studies, seed=seed or 0, **drawn)
    asked = f" ({studies} were asked for)" if len(key.studies) < studies else ""
    click.echo(f"{len(key.studies)} studies{asked}, {key.identical} with the same text twice")
    to_send = [f"to send: {out / sheet.reader}" for sheet in key.sheets]
    click.echo("\n".join([*to_send, f"to keep from readers: {out / 'key.json'}"]))


@review.command()
@options.declared("summarise")
@click.argument("answers", nargs=-1, required=True, type=options.file)
@options.no_seed
def summarise(key_file: Path, answers: tuple[Path, ...], out: Path | None) -> None:
    """Unblind ANSWERS and summarise them."""
    from xray_captioning.review.study import Key, read_answers
    from xray_captioning.review.summary import format_summary
    from xray_captioning.review.summary import summarise as find

    key = Key.from_json(key_file)
    summary = find(key, read_answers(key, answers))
    click.echo(format_summary(summary))
    if out is not None:
        atomic_write(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        atomic_write(out / "summary.md", format_summary(summary, markdown=True) + "\n")
        click.echo(f"wrote {out / 'summary.json'} and {out / 'summary.md'}")

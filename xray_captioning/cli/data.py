"""Commands that make data, look at them, download and keep them, show it all, and list what there is."""

import inspect
import json
import math
import os
import re
import sys
import warnings
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import click

from xray_captioning import config, files
from xray_captioning.bundles import bundle as bundles
from xray_captioning.cli import options
from xray_captioning.data import opening, splits, stores
from xray_captioning.data.studies import Studies, format_summary, summarise, summary_warnings
from xray_captioning.errors import ConfigError
from xray_captioning.evaluation.table import format_csv
from xray_captioning.hub import repositories
from xray_captioning.plugins import model_names, origin_of

READ = 64  # images at a time
LOST = "the process that read it ended twice; it may take more memory than there is"
EXAMPLES = 2  # images that are named
FOLDERS = 10_000  # that are looked into for them
TEXTS = files.read_toml(__file__, "texts.toml")


@click.command()
@options.declared("demo", "devices")
@options.seed
def demo(out: Path, seed: int | None, devices: Literal["one", "all"]) -> None:
    """Render phantoms, train on them, caption others, and compare with the baselines."""
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty; choose another folder with --out")

    from xray_captioning.demo import run_demo
    from xray_captioning.evaluation import baselines, table

    rows = run_demo(out, seed or 0, lambda line: click.echo(line, err=True), devices)
    click.echo(table.format_table(baselines.merged_rows(rows)))
    click.echo(TEXTS["demo"].format(out=out))


@click.command()
@options.declared("phantom")
@options.seed
def phantom(out: Path, studies: int, size: int, difficulty: str, seed: int | None) -> None:
    """Write synthetic two-view studies with known findings, in the Kaggle layout."""
    from xray_captioning.phantom.dataset import write_phantoms

    write_phantoms(out, studies=studies, seed=seed or 0, size=size, difficulty=difficulty)
    click.echo(f"{studies} synthetic studies in {out}")


@click.command()
@options.source(click.argument("data", metavar="PATH", type=options.existing))
@options.declared("prepare")
@options.engine
@options.no_seed
def prepare(source: options.Source, out: Path | None, read_images: bool, engine: options.Engine) -> None:
    """List what PATH holds and what is missing, and split its studies.

    The split depends on the data only, so that no seed can carry a test study into training.
    """
    if engine.engine != "local" and not read_images:
        raise ConfigError("--engine ray reads images: give --read-images")
    from xray_captioning.data.sources import captions

    studies = source.read()
    summary, split = summarise(studies), splits.split_studies(studies)
    if summary["source"] == "captions":
        found = captions.columns_of(Path(studies.attrs["path"]), source.columns)
        summary["columns"], summary["columns_not_used"] = found
    bad = _unreadable(studies, engine) if read_images else []
    summary |= {"images_unreadable": len(bad)} if read_images else {}
    click.echo(format_summary(summary | {"parts": split.parts, "digest": split.digest}))
    for sentence in summary_warnings(summary, _images_below(source)):
        warnings.warn(sentence, stacklevel=1)
    if out is not None:
        files.atomic_write(out / "summary.json", json.dumps(summary, indent=2) + "\n")
        split.to_json(out / "split.json")
        if read_images:
            files.atomic_write(out / "unreadable.csv", format_csv(bad, ["image", "error"]))
        click.echo(f"wrote {out / 'summary.json'} and {out / 'split.json'}")
        click.echo(f"to train and evaluate on this split: --split {out / 'split.json'}")


def _unreadable(studies: Studies, engine: options.Engine) -> list[dict[str, str]]:
    from xray_captioning.data.images import unreadable

    paths = sorted(stores.those_there(chain.from_iterable(studies["images"])))
    batches = [paths[start : start + READ] for start in range(0, len(paths), READ)]
    with engine.spread() as spread, files.progress(total=len(paths), desc="read images", unit="image") as bar:
        found: list[str | None] = []
        for errors in spread(lambda: unreadable, batches, lambda _: LOST) if spread else map(unreadable, batches):
            found += errors
            bar.update(len(errors))
    return [{"image": path, "error": error} for path, error in zip(paths, found, strict=True) if error]


def _images_below(source: options.Source) -> list[str]:
    """Return a few images below a folder, or beside a file, wherever there are any."""
    place = source.images or source.data
    if isinstance(place, str):  # the address of a store
        return []
    folder = place if place.is_dir() else place.parent
    below = (os.path.join(root, n) for root, _, names in islice(os.walk(folder), FOLDERS) for n in sorted(names))
    return list(islice((path for path in below if path.lower().endswith(opening.IMAGE_SUFFIXES)), EXAMPLES))


@click.command()
@click.argument("name", required=False)
@options.declared("fetch")
@options.no_seed
def fetch(name: str | None, out: Path, only_list: bool, registry: Path | None) -> None:
    """Download published weights, reports or images, and check them.

    NAME is chexnet, attention, iu-reports, iu-images or kaggle. Files that are there already are
    checked and not downloaded again; an interrupted download is continued where it stopped.
    """
    from xray_captioning.hub import fetch as published
    from xray_captioning.plots.images import render

    entries = published.read_registry(registry)
    if only_list:
        click.echo(render("cli/fetched.jinja", entries=entries), nl=False)
        return
    if name not in entries:
        found = f"{name!r} is none" if name else "no name is given"
        raise ConfigError(f"{found} of what can be fetched; choose one of {', '.join(entries)}")
    click.echo(render("cli/fetched.jinja", entries={name: entries[name]}), nl=False)
    for path in published.fetch(entries[name], out):
        click.echo(f"{path} is there")


@click.command()
@click.argument("bundle")
@click.argument("address")
@options.declared("push")
@options.no_seed
def push(bundle: str, address: str, name: str | None, licence: str | None) -> None:
    """Send BUNDLE to ADDRESS, hf://USER/NAME or kaggle://USER/MODEL/FRAMEWORK/VARIATION.

    The files of its manifest are sent, and no others; a repository that is new is private.
    """
    values = bundles.read_bundle(folder := bundles.find_bundle(bundle), "encoder", exported=True)
    if told := bundles.named(name) | ({"licence": licence} if licence else {}):
        if not Path(bundle).is_dir():
            raise ConfigError(f"{bundle}: stays as it is; copy {folder}, and give the copy its name and licence")
        repositories.open_repository(address)  # before anything is written
        values["about"] |= told
        bundles.rewrite_bundle(folder, lambda aside: bundles.write_card(aside, values))
    own = str(bundles.identity(folder))
    click.echo(f"sent {own} to {repositories.push(folder, address, own)}")
    click.echo("note: split.json in it names the studies of its training by their ids", err=True)


@click.command()
@click.argument("address")
@options.declared("pull")
@options.no_seed
def pull(address: str, out: Path | None) -> None:
    """Fetch the bundle at ADDRESS, hf://USER/NAME[@REVISION] or kaggle://USER/MODEL/FRAMEWORK/VARIATION[/VERSION]."""
    bundles.read_bundle(folder := repositories.pull(address), "encoder", exported=True)
    if out is not None:
        with files.new_folder(out) as aside:
            bundles.copy_files(folder, aside)
    click.echo(f"{bundles.identity(folder)} is in {out or folder}")


@click.command()
@options.declared("cache", "cache")
@options.no_seed
def cache(cache: Path | None, name: str | None, yes: bool, limit: float | None) -> None:
    """List what is kept between runs, by size: kind, last use, name and settings.

    It never takes more than 20 GiB, or the number of GiB that the environment variable
    XRAY_CAPTIONING_CACHE_GIB names; --seed changes nothing.
    """
    from xray_captioning.data import cache_folder as folder

    if name and limit is not None:
        raise ConfigError("--empty and --limit exclude each other; leave one out")
    if limit is not None and not math.isfinite(limit):
        raise ConfigError(f"--limit is {limit}; give a number of GiB, 0 or more")
    root, gib = cache or folder.usual_cache(), folder.GIB
    if name:
        found = folder.caches(root)
        names = dict.fromkeys(["all", *(name for one in found for name in (one.kind, one.folder.name))])
        if name not in names:
            raise ConfigError(f"--empty {name}: nothing is called so; there is {', '.join(names)}")
        chosen = [one for one in found if name in ("all", one.kind, one.folder.name)]
        if yes or _confirmed(f"{len(chosen)} of {root}, {sum(one.size for one in chosen) / gib:.2f} GiB"):
            click.echo(f"removed {folder.empty(chosen) / gib:.2f} GiB")
    if limit is not None:
        click.echo(f"removed {folder.trim(root, int(limit * gib)) / gib:.2f} GiB")
    for one in (found := folder.caches(root)):
        used = datetime.fromtimestamp(one.used).isoformat(" ", "minutes")
        click.echo(f"{one.size / gib:8.2f} GiB  {one.kind:8}  {used}  {one.folder.name}  {one.settings}")
    click.echo(f"{sum(one.size for one in found) / gib:8.2f} GiB of at most {folder.size_limit() / gib:g} in {root}")


def _confirmed(size: str) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(f"--empty removes {size}, and asks before; add --yes if you are sure")
    return click.confirm(f"remove {size}?")


@click.command()
@options.no_seed
def encoders() -> None:
    """List encoders that others have published, with licence, pixels and address, and your own.

    Each is an --encoder of `encode` and a model.encoder of `train`, unless it says otherwise.
    """
    from xray_captioning.hub.fetch import registry
    from xray_captioning.plots.images import render

    own = {name: origin_of("encoder", name) for name in model_names({}, "encoder")}
    click.echo(render("cli/encoders.jinja", registry=registry(), own=own), nl=False)


@click.command()
@options.no_seed
def decoders() -> None:
    """List the decoders, a line each, and your own; each is a model.decoder of `train`."""
    from xray_captioning.decoders import DECODERS

    for name in model_names(DECODERS, "decoder"):
        own = name in DECODERS and (inspect.getdoc(DECODERS[name].kind) or "").partition("\n\n")[0]
        said = _first_sentence(own) if own else f"of the package {' '.join(origin_of('decoder', name).values())}"
        click.echo(f"{name}: {said}")


@click.command()
@options.no_seed
def presets() -> None:
    """List the presets, a line each; each is a --preset of `train` and `train-encoder`."""
    for name in config.presets():
        click.echo(f"{name}: {_first_sentence(config.read_preset(name)['about'])}")


@click.command()
@options.no_seed
def fields() -> None:
    """List what --set changes, a line each: its value where neither preset nor --set say another, and its meaning."""
    said, default = files.read_toml(config.__file__, "config.toml"), config.Config()
    for name, value in default.flat().items():
        group, _, field = name.rpartition(".")
        owners = type(getattr(default, group) if group else default).__mro__
        text = next(said[owner.__name__][field] for owner in owners if field in said.get(owner.__name__, ()))
        click.echo(f"{name}={json.dumps(value)}: {_first_sentence(text)}")


def _first_sentence(text: str) -> str:
    plain = re.sub(r":\w+:`([^`]+)`|`+", r"\1", " ".join(text.split()))
    return re.split(r"(?<=[^.]\w)\. (?=[A-Z`])", plain)[0].rstrip(".") + "."

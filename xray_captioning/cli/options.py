"""Options that several commands share, and what they are turned into."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce, wraps
from pathlib import Path
from typing import Any, NamedTuple, Self

import click

from xray_captioning.config import Config, load_preset, parse_assignment
from xray_captioning.data.opening import is_zip
from xray_captioning.data.stores import is_address, local
from xray_captioning.data.studies import Studies, summarise
from xray_captioning.errors import ConfigError
from xray_captioning.files import read_toml
from xray_captioning.hub.repositories import is_hub

DEFAULT = "phantom_attention"  # the shipped bundle


class _Place(click.Path):
    """A path, or what is made of the address of a store: without `take` it is refused."""

    def __init__(self, take: Callable[[str], Any] | None = None, **given: Any) -> None:
        super().__init__(path_type=Path, **given)
        self.take = take

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return a Path, or what is made of an address; data of a hub are pulled."""
        if is_hub(value) and self.exists:
            return local(value)
        if is_hub(value) or (is_address(value) and self.take is None):
            self.fail(f"{value}: is the address of a store; give a path of this machine", param, ctx)
        return self.take(value) if self.take and is_address(value) else super().convert(value, param, ctx)


existing = _Place(str, exists=True)
folder = _Place(file_okay=False)
file = _Place(local, exists=True, dir_okay=False)
new_file = _Place(dir_okay=False)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_DECLARED: dict[str, dict[str, dict[str, Any]]] = read_toml(__file__, "options.toml")
_PATHS = {"existing": existing, "here": _Place(exists=True), "folder": folder, "file": file, "new_file": new_file}
_PATHS |= {"copied": _Place(local, exists=True), "sent": _Place(str)}
_TYPES: dict[str, Callable[[Any], Any]] = {
    "path": _PATHS.__getitem__,
    "choice": click.Choice,
    "least": click.FloatRange,
    "range": lambda ends: click.IntRange(*ends),
}


def _option(command: str, name: str, **more: Any) -> Decorator:
    values = dict(_DECLARED[command][name])
    for kind, make in _TYPES.items():
        if kind in values:
            values["type"] = make(values.pop(kind))
    own = values.pop("name", name.replace("-", "_"))
    return click.option(*values.pop("flags", [f"--{name}"]), own, show_default="default" in values, **values, **more)


def _together(options: Sequence[Decorator]) -> Decorator:
    """Return what adds several options, which the help then has in this order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


def declared(command: str, *shared: str) -> Decorator:
    """Add the options that ``options.toml`` has for a command, and some that commands share."""
    own = [_option(command, name) for name in _DECLARED[command]]
    return _together([*own, *(_option("shared", name) for name in shared)])


seed = _option("shared", "seed")
no_seed = _option("shared", "seed", expose_value=False)  # every command takes one; these draw nothing


class Source(NamedTuple):
    """Where studies are, and how they are read; nowhere if the command may do without them."""

    data: Any  # a Path, or None
    images: Path | None = None
    columns: dict[str, str | None] | None = None
    captions_from_labels: bool = False
    need_images: bool = True

    def check(self, named: Sequence[str] | None = None) -> None:
        """Refuse what is said of --data where that is left out, and images `named` beside it."""
        if named is not None and bool(named) == (self.data is not None):
            command = click.get_current_context().command_path
            raise ConfigError(f"give either IMAGE or DIR, or --data; see {command} --help")
        if self.data is None and (self.images is not None or self.columns is not None):
            option = "--images" if self.images is not None else "--columns"
            raise ConfigError(f"{option} says how --data is read; give --data, too")

    def beside(self, *paths: Path | None) -> list[Self]:
        """Return this source and further ones; --columns is for those that are captions tables."""
        # Collections have columns of their own. --images is for this source alone.
        from xray_captioning.data.sources.reading import CAPTIONS, detect

        places = [self, *(self._replace(data=path, images=None) for path in paths)]
        there = [place for place in places if self.columns and place.data is not None]
        own = [p for p in there if is_address(p.data) or is_zip(p.data) or detect(p.data).source is CAPTIONS] or [self]
        return [place if place in own else place._replace(columns=None) for place in places]

    def read(self) -> Studies:
        """Return the studies."""
        from xray_captioning.data.sources import published, reading

        studies = reading.read_studies(self.data, self.images, None, self.columns, self.need_images)
        return published.render_captions(studies) if self.captions_from_labels else studies

    def load(self) -> Studies:
        """Return the studies, and say once how many images are missing."""
        studies = self.read()
        if self.need_images and (missing := (n := summarise(studies))["images_missing"]):  # which is no error
            click.echo(
                f"note: {missing} of {n['images_named']} images are not there; see xray-captioning prepare {self.data}"
            )
        return studies


def source(where: Decorator | str | None = None, labels: bool = True) -> Decorator:
    """Give a command, as ``source``, the `Source` that its options tell; `where` is the first, or what its help
    says of --data where a command may do without it.
    """
    where = click.option("--data", type=existing, help=where) if isinstance(where, str) else where
    added = [where or _option("shared", "data"), _option("shared", "images")]
    added += [_option("shared", "columns", callback=column_names)]
    added += [_option("shared", "captions-from-labels")] if labels else []
    return _gathered("source", Source, added)


def _gathered(name: str, kind: Any, added: list[Decorator]) -> Decorator:
    """Return what gives a command, by a name, one value of a kind that is made of the options `added`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(*args: Any, **given: Any) -> Any:
            values = {field: given.pop(field) for field in kind.__match_args__ if field in given}
            return command(*args, **{name: kind(**values)}, **given)

        return _together(added)(run)

    return decorate


@dataclass(frozen=True)
class Engine:
    """Where the work is done: in this process, or by Ray's workers."""

    engine: str
    workers: int | None
    address: str | None

    def __post_init__(self) -> None:
        if self.engine == "local" and (self.workers or self.address):
            raise ConfigError("--workers and --address are of --engine ray; give that, too")

    def spread(self) -> AbstractContextManager[Any]:
        """Return a context: of None in this process, or else of what spreads batches over workers."""
        from xray_captioning.batch.workers import ray_workers

        return nullcontext() if self.engine == "local" else ray_workers(self.workers, self.address)


# Gives a command, as ``engine``, the `Engine` that its options tell.
engine = _gathered("engine", Engine, [_option("shared", name) for name in Engine.__match_args__])


def make_config(
    preset: str | Config,
    assignments: Sequence[str],
    seed: int | None,
    group: str = "training",
    encoder: str | None = None,
    weights: str | None = None,
) -> Config:
    """Return a preset or configuration with fields set; another encoder, or a folder, brings its images."""
    changes: dict[str, Any] = dict(parse_assignment(text) for text in assignments)
    changes |= {"model.encoder": encoder} if encoder else {}
    other = {"training": "encoder_training", "encoder_training": "training"}[group]
    config = (load_preset(preset) if isinstance(preset, str) else preset).replace(changes)
    groups = {name.split(".")[0] for name in changes}
    if other in groups and group not in groups:  # both may be set, for both commands alike
        raise ConfigError(f"--set {other}.*: changes nothing here; this command reads the fields {group}.*")
    if "model.encoder" in changes or (weights and Path(weights).is_dir()):
        from xray_captioning.encoders.saved import adopted

        config = adopted(config, weights, changes)
    return config if seed is None else config.replace({f"{group}.seed": seed})


def column_names(_context: Any, _option: Any, text: str | None) -> dict[str, str | None] | None:
    """Return the column of each role; one without a name is played by no column."""
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    if wrong := [role for role, sign, _ in pairs if not role.strip() or not sign]:
        raise ConfigError(f"--columns: {wrong[0]!r} is no ROLE=NAME; write it as image=file,caption=note")
    names = {role.strip(): name.strip() or None for role, _, name in pairs}
    if len(names) < len(pairs):
        raise ConfigError(f"--columns {text}: names a role twice; one column has it, or a cell lists several")
    return names

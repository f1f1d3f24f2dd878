"""The command that looks after the folder of caches."""

from __future__ import annotations

import math
from pathlib import Path

import click

from xray_captioning.cli import options
from xray_captioning.errors import ConfigError


@click.command()
@options.declared("cache", "cache")
@options.no_seed
def cache(cache: Path | None, clear: bool, limit: float | None) -> None:
    """List the pixels and features that are kept between runs, and remove them.

    They never take more than 20 GiB, or the number of GiB that the environment variable
    XRAY_CAPTIONING_CACHE_GIB names; --seed changes nothing.
    """
    from xray_captioning.data.cache_folder import (
        GIB,
        caches,
        remove_archives,
        size_limit,
        trim,
        usual_cache,
    )

    if clear and limit is not None:
        raise ConfigError("--clear and --limit exclude each other; leave one out")
    if limit is not None and not math.isfinite(limit):
        raise ConfigError(f"--limit is {limit}; give a number of GiB, 0 or more")
    root = cache or usual_cache()
    if clear or limit is not None:
        freed = trim(root, 0 if limit is None else int(limit * GIB))
        freed += remove_archives(root) if clear else 0
        click.echo(f"removed {freed / GIB:.2f} GiB")
    found = caches(root)
    for cached in found:
        click.echo(f"{cached.size / GIB:8.2f} GiB  {cached.folder.name}  {cached.settings}")
    total = sum(cached.size for cached in found)
    click.echo(f"{total / GIB:8.2f} GiB of at most {size_limit() / GIB:g} in {root}")

"""Where in its images a caption's findings are seen, by several methods, and how often each points right.

A map has a share for each region of a study's views; the shares sum to 1. How often its maximum lies in the outline of
the finding (the pointing game of Zhang et al., IJCV 2018) is measured by `comparison.pointing` and kept in the bundle;
`Caption.regions` are of the method that does best for each finding, and only if that is better than chance.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from xray_captioning.bundles.bundle import FEATURES
from xray_captioning.captioner.caption import Caption, Region
from xray_captioning.captioner.studies import with_context
from xray_captioning.config import Config
from xray_captioning.data.encoding import encode_images
from xray_captioning.data.features import Array, Features
from xray_captioning.data.resizing import opencv
from xray_captioning.metrics.mentions import NamedFinding, named_findings
from xray_captioning.plots.panels import Example

MEASURE = "pointing_game"  # what a bundle's `about` calls it: rows as `comparison.pointing` makes them
ALL = "all"  # findings together, in those rows
LEAST = 5  # cases; of fewer one that is right by chance would already seem better than chance
STRONG = 0.5  # of the strongest share, what a region of a box has at least
SPOTS = np.linspace(0.35, 0.65, 4)  # where they are put, in shares of an image's sides, to find the offset

# The numbers of captions, findings that they name, "" where only a side is asked for, and places of words.
Asked = Sequence[tuple[int, str, Sequence[int]]]
Captions: TypeAlias = Sequence[Caption]
Named: TypeAlias = Sequence[tuple[int, NamedFinding]]


def _attention(captioner: Any, features: Features, captions: Captions, asked: Asked, told: Any) -> Iterator[Any]:
    for row, _, words in asked:
        maps = captions[row].attention
        yield maps[list(words)].mean(axis=0).ravel() if maps is not None and words else 0


def _class_activation(captioner: Any, features: Features, captions: Captions, asked: Asked, told: Any) -> Iterator[Any]:
    encoder = captioner.encoder
    activation = getattr(encoder, "activation", lambda regions, _: class_activation(encoder, regions))(*features)
    for row, finding, _ in asked:
        yield np.asarray(activation)[row, :, encoder.findings.index(finding)] if finding in encoder.findings else 0


def class_activation(encoder: Any, regions: Any) -> Any:
    """Return what each region adds to the encoder's logits (Zhou et al., arXiv:1512.04150), or to evidence that is
    pooled: (batch, regions, findings), not negative. An export has it as a graph's output.
    """
    from xray_captioning.backend import ops

    logits = ops.matmul(ops.cast(regions, "float32"), encoder.classifier.kernel)
    pooled = encoder.pooling == "evidence"
    return ops.exp(logits - ops.max(logits, axis=1, keepdims=True)) if pooled else ops.relu(logits)


@functools.lru_cache(maxsize=1)  # of the model in use
def _word_gradient(model: Any) -> Any:
    from xray_captioning.backend import gradient, ops

    def log_probability(regions: Any, given: Any, words: Any, chosen: Any) -> Any:
        logits = model({"regions": regions, **given}, training=False)
        return ops.sum(ops.take_along_axis(ops.log_softmax(logits), words[:, :, None], axis=2)[..., 0] * chosen)

    return gradient(log_probability, model)


def _gradient(captioner: Any, features: Features, captions: Captions, asked: Asked, told: Any) -> Any:
    """Return the positive gradient times features of the words' log-probability, by region: as Grad-CAM (Selvaraju et
    al., arXiv:1610.02391), but of what the decoder reads.
    """
    few = len(asked)  # repeated up to a power of two: each number of captions is compiled by itself
    asked = list(itertools.islice(itertools.cycle(asked), 1 << (few - 1).bit_length()))
    texts, most = [" ".join(captions[row].words) for row, *_ in asked], captioner.config.text.maximum_length
    tokens = captioner.tokenizer.encode_batch(texts, most)
    chosen = np.zeros(tokens[:, 1:].shape, "float32")
    for weights, ids, (*_, words) in zip(chosen, tokens, asked):
        spelled = dict(enumerate(places for _, places in captioner.tokenizer.words_in(ids)))
        weights[[place - 1 for word in words for place in spelled.get(word, ())]] = 1
    rows = [row for row, *_ in asked]
    regions, given = features.regions[rows], {"mask": features.mask[rows], "tokens": tokens[:, :-1]}
    given |= {} if told is None else {"context": told[rows]}
    found = _word_gradient(captioner.model)(regions, given, tokens[:, 1:], chosen)
    return (np.asarray(found) * regions)[:few].sum(axis=-1).clip(0)


METHODS: dict[str, Any] = {"attention": _attention, "class activation": _class_activation, "gradient": _gradient}


def methods_of(captioner: Any) -> list[str]:
    """Return the methods that a captioner may have maps of: exported graphs have no gradients."""
    classifies = any(hasattr(captioner.encoder, name) for name in ("classifier", "activation"))
    lacks = {"class activation": not classifies, "gradient": not captioner.compiles}
    return [name for name in METHODS if not lacks.get(name)]


def evidence_maps(
    method: str, captioner: Any, features: Features, captions: Captions, named: Named, told: Any, side: bool = False
) -> Array:
    """Return maps of one method for findings, or words for their `side`, and the numbers of their captions: (named,
    views, rows, columns), all zero where there is none. `told` are the token ids of what the model reads beside images.
    """
    asked = [(row, "" if side else one.finding, one.side_words if side else one.words) for row, one in named]
    maps = np.zeros((len(asked), features.mask.shape[1]), "float32")
    for shares, found in zip(maps, METHODS[method](captioner, features, captions, asked, told) if asked else ()):
        shares[:] = found
    maps *= features.mask[[row for row, *_ in asked]] if asked else 1
    maps /= np.maximum(maps.sum(axis=1, keepdims=True), 1e-12)
    return maps.reshape(len(asked), captioner.config.image.views, *captioner.encoder.grid)


def region_offset(encode: Any, config: Config, grid: tuple[int, int]) -> tuple[float, float]:
    """Return how far below and right of its place in the grid lies what a region sees, in shares of the image's sides.

    Convolutions with a stride look to one side of their place, four that are padded as Keras' "same" by half a region
    (Araujo et al., Computing Receptive Fields, Distill 2019). It is measured with small spots on a grey image.
    """
    size = config.image.size
    y, x, _ = (np.mgrid[:size, :size, :1] + 0.5) / size
    places = np.array([(-1, -1), *((a, b) for a in SPOTS for b in SPOTS)])  # the first spot is nowhere
    grain = np.random.default_rng(0).normal(0.5, 0.05, (size, size, 1))
    images = [np.repeat((grain + 0.3 * (np.hypot(y - a, x - b) < 0.04)).clip(0, 1), 3, axis=2) for a, b in places]
    maps = encode_images(encode, config, [image.astype("float32") for image in images])
    changed = ((maps[1:] - maps[0]) ** 2).sum(axis=-1)
    changed /= np.maximum(changed.sum(axis=(1, 2), keepdims=True), 1e-12)
    seen = [changed.sum(axis=2 - axis) @ ((np.arange(n) + 0.5) / n) for axis, n in enumerate(grid)]
    down, right = (places[1:] - np.stack(seen, axis=1)).mean(axis=0).tolist()
    return down, right


def offset_of(captioner: Any, encode: Any) -> tuple[float, float]:
    """Return the offset that a captioner's bundle knows, or else measure it; there is none of given features."""
    known = (0.0, 0.0) if captioner.config.model.encoder == FEATURES else captioner.about.get(MEASURE, {}).get("offset")
    return tuple(known) if known else region_offset(encode, captioner.config, captioner.encoder.grid)


def _measured(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a bundle knows of words that name findings: a row a method and finding, of cases enough."""
    return [row for row in about.get(MEASURE, {}).get("rows", ()) if row["words"] == "finding" and row["n"] >= LEAST]


def how_often(about: Mapping[str, Any], system: str | None = None, method: str = "attention") -> str:
    """Say how often a method points right for words that name findings, of one `system` where there are several."""
    for row in _measured(about):
        if (row["method"], row["finding"]) == (method, ALL) and system in (None, row.get("system")):
            share, chance = (f"{100 * row[name]:.0f} %" for name in ("hits", "chance"))
            return f"its maximum lies in the finding's outline in {share} of {row['n']} cases, by chance in {chance}"
    return "how often it points at the finding was not measured"


def best_methods(about: Mapping[str, Any], has: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return by finding what a bundle's measure says of the method that is best for it, of those that there are."""
    clear = [row for row in _measured(about) if row["low"] > row["chance"] and row["method"] in has]
    return {row["finding"]: row for row in sorted(clear, key=lambda row: row["hits"])}  # the last counts


def explained(captioner: Any, features: Features, caption: Caption, plain: Example) -> Iterator[Example]:
    """Yield a `plain` example of one caption for each method, with the maps of the findings that it names."""
    named = list({one.words: (0, one) for one in named_findings(caption.words)}.values())
    ((_, told),) = with_context([features], None, captioner.tokenizer, captioner.config)
    for method in methods_of(captioner) if named else ():
        maps = evidence_maps(method, captioner, features, [caption], named, told)
        found = [row for row, shares in enumerate(maps) if shares.any()]
        said = [" ".join(caption.words[place] for place in named[row][1].words) for row in found]
        places = features.mask.reshape(maps.shape[1], -1).any(axis=1)  # of the views that are there
        if found:
            row = plain._replace(attention=maps[found][:, places], words=said, named=[(n,) for n in range(len(said))])
            yield row._replace(captions={method: how_often(captioner.about, method=method)})


def grounded(captioner: Any, features: Features, captions: Captions, told: Any) -> list[Caption]:
    """Return captions with their regions, where the bundle's own measure allows it."""
    best = best_methods(captioner.about, has := methods_of(captioner))
    if not best:
        return list(captions)
    regions: list[list[Region]] = [[] for _ in captions]
    named = [(row, one) for row, caption in enumerate(captions) for one in named_findings(caption.words)]
    for method in has:
        own = [(row, one) for row, one in named if best.get(one.finding, {}).get("method") == method]
        for (row, one), maps in zip(own, evidence_maps(method, captioner, features, captions, own, told)):
            if maps.any():
                view = int(maps.max(axis=(1, 2)).argmax())
                said = " ".join(captions[row].words[place] for place in one.words)
                known = *(best[one.finding][name] for name in ("method", "hits", "chance")), said
                regions[row].append(
                    Region(one.sentence, one.finding, view, box_of(maps[view], captioner.offset), *known)
                )
    return [c._replace(regions=sorted(own, key=lambda r: r.sentence)) for c, own in zip(captions, regions)]


def box_of(shares: Array, offset: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom, in shares of what is seen, of the strong regions around the strongest."""
    _, parts = opencv().connectedComponents((shares >= STRONG * shares.max()).astype("uint8"))
    sides = []
    for places, count, moved in zip(np.nonzero(parts == parts.flat[shares.argmax()]), shares.shape, offset):
        sides.append(np.clip(np.array([places.min(), places.max() + 1]) / count + moved, 0, 1).tolist())
    (top, bottom), (left, right) = sides
    return left, top, right, bottom

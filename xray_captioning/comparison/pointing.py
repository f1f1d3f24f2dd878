"""Whether a captioner looks at what it names: the pointing game, and captions of images with a finding painted over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec import to_builtins

from xray_captioning.captioner.evidence import ALL, Captions, evidence_maps, methods_of
from xray_captioning.captioner.studies import with_context
from xray_captioning.data import outlines as drawn
from xray_captioning.data.images import read_image
from xray_captioning.data.outlines import Outline, Outlines
from xray_captioning.data.targets import contexts, study_images
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.calibration import share_interval
from xray_captioning.metrics.mentions import NamedFinding, named_findings

if TYPE_CHECKING:
    from xray_captioning.captioner.caption import Caption
    from xray_captioning.comparison.texts import CaptioningSystem, Task

PAINTED, BATCH = 500, 32  # findings of a system that are painted over at most, and at a time
Row = dict[str, Any]


class Case(NamedTuple):
    """What was found out of one finding of one caption."""

    kind: tuple[str, ...]  # the method and the words of a map; or what was painted over
    finding: str
    patient: int
    outcome: bool  # the strongest region touches the outline; or the finding has gone from the caption
    mass: float = 0  # the share of the map in regions that touch the outline
    chance: float = 0  # how many of the study's regions do


def pointing_games(
    models: Mapping[str, Any], task: Task, captions: Mapping[str, Captions], outlines: Outlines, who: Any, beam: int
) -> dict[str, list[Row]]:
    """Return ``rows``, how often each method's maps point at findings that captions name and outlines have, and
    ``painted``, how often one goes from the caption when its outline is painted over, or as much elsewhere.
    """
    # Of each model's first run and its captions by the first search; `who` are the studies' patients.
    found: dict[str, list[Row]] = {"rows": [], "painted": []}
    for name, (run, *_) in models.items():
        seen, given = _Seen(run, task, outlines), (run, captions[name], who)
        cases, painted = _pointing(*given, task, seen), () if run.features else _painting(*given, seen, beam)
        found["rows"] += _rows(name, list(cases), ("method", "words"), "hits", ("mass", "chance"))
        found["painted"] += _rows(name, list(painted), ("painted",), "gone", ())
    return found


def _rows(system: str, cases: list[Case], names: Sequence[str], outcome: str, means: Sequence[str]) -> Iterator[Row]:
    """Yield a row for each kind of cases and finding, that for all findings first."""
    for kind in dict.fromkeys(case.kind for case in cases):
        alike = [case for case in cases if case.kind == kind]
        for finding in (ALL, *sorted({case.finding for case in alike})):
            own = [case for case in alike if finding in (ALL, case.finding)]
            found = np.array([case.outcome for case in own], float)
            low, high = share_interval(found, np.array([case.patient for case in own]))
            known = {"system": system, **dict(zip(names, kind)), "finding": finding, "n": len(own)}
            other = {name: float(np.mean([getattr(case, name) for case in own])) for name in means}
            yield {**known, outcome: float(found.mean()), "low": low, "high": high, **other}


def located(run: CaptioningSystem, test: Any, captions: Captions) -> dict[str, list[Row]]:
    """Return regions by study, each with the name of its image and its box in shares of all of it."""
    image, found = run.config.image, dict[str, list[Row]]()
    for study, paths, caption in zip(test["study_id"], study_images(test, run.config), captions):
        for one in caption.regions or ():
            box = drawn.within(drawn.seen_of(path := str(paths[one.view]), image.size, image.resize), one.box)
            found.setdefault(study, []).append({**to_builtins(one), "image": Path(path).name, "box": box})
    return found


class _Seen:
    """What a model sees of the evaluated studies, and where outlines are in it."""

    def __init__(self, run: CaptioningSystem, task: Task, outlines: Outlines) -> None:
        self.image, self.captioner, self.context = run.config.image, run.captioner, contexts(task.test, run.config)
        most, images = self.image.views, study_images(task.test, run.config)
        rows = [(study, [*paths, *[None] * most][:most]) for study, paths in zip(task.test["study_id"], images)]
        # By study each view's image, if there is one, and the outlines on it.
        self.views = [[(p, outlines.get((study, Path(p or "").name), [])) for p in paths] for study, paths in rows]

    def named(self, row: int, caption: Caption) -> list[NamedFinding]:
        """Return what a caption names that has an outline, each finding once."""
        there = {one.finding for _, own in self.views[row] for one in own}
        return list({n.finding: n for n in reversed(named_findings(caption.words)) if n.finding in there}.values())

    def part(self, path: str | None) -> Any:
        return drawn.seen_of(path, self.image.size, self.image.resize) if path else drawn.WHOLE

    def reached(self, row: int, named: NamedFinding, side: bool) -> Any:
        """Return which regions (views, rows, columns) touch the outlines of a finding, or those on its side."""
        sides = named.sides | ({"bilateral"} if len(named.sides) == 2 else set())

        def touched(path: str | None, there: list[Outline]) -> Any:
            own = [one for one in there if one.finding == named.finding and (one.side in sides or not side)]
            return drawn.touched(own, self.captioner.encoder.grid, drawn.moved(self.part(path), self.captioner.offset))

        return np.array([touched(*view) for view in self.views[row]])

    def painted(self, row: int, finding: str) -> dict[str, list[Any]]:
        """Return a study's images with a finding painted over, and with as much elsewhere where there is room."""
        found: dict[str, list[Any]] = {"outline": [], "elsewhere": []}
        seen = False  # it may all be cut off
        for path, there in self.views[row]:
            pixels: Any = read_image(path, self.image.size, self.image.resize) if path else None
            shape, part = (self.image.size,) * 2, self.part(path)
            own, taken = (
                drawn.widened(drawn.filled([o for o in there if o.finding in some], shape, part))
                for some in ([finding], FINDINGS)
            )
            seen = seen or bool(own.any())
            for place, mask in (("outline", own), ("elsewhere", drawn.elsewhere(own, taken) if own.any() else own)):
                if mask is not None and not mask.all():
                    found[place].append(drawn.painted(pixels, mask) if mask.any() else pixels)
        return {place: images for place, images in found.items() if seen and len(images) == len(self.views[row])}


def _pointing(run: CaptioningSystem, captions: Captions, who: Any, task: Task, seen: _Seen) -> Iterator[Case]:
    captioner, left = run.captioner, enumerate(captions)
    batches = run.batches(task.test, task.cache)
    for features, told in with_context(batches, seen.context, captioner.tokenizer, captioner.config):
        rows, some = zip(*islice(left, len(features.mask)))
        asked = [(i, named) for i, row in enumerate(rows) for named in seen.named(row, some[i])]
        for side, words in enumerate(("finding", "side")):
            reach = [seen.reached(rows[i], named, bool(side)) for i, named in asked]
            for method in methods_of(captioner):
                maps = evidence_maps(method, captioner, features, some, asked, told, bool(side))
                for (i, named), shares, inside in zip(asked, maps, reach):
                    if shares.any() and inside.any():
                        hit, mass = bool(inside.flat[shares.argmax()]), float(shares[inside].sum())
                        chance = float(inside.sum() / features.mask[i].sum())
                        yield Case((method, words), named.finding, who[rows[i]], hit, mass, chance)


def _painting(run: CaptioningSystem, captions: Captions, who: Any, seen: _Seen, beam: int) -> Iterator[Case]:
    pairs = [(row, one.finding) for row, caption in enumerate(captions) for one in seen.named(row, caption)][:PAINTED]
    for start in range(0, len(pairs), BATCH):
        some = [(*pair, *shown) for pair in pairs[start : start + BATCH] for shown in seen.painted(*pair).items()]
        features, told = run.captioner.features([images for *_, images in some], resized=True), seen.context
        said = run.captioner.write_captions(features, beam, context=told and [told[row] for row, *_ in some])
        for (row, finding, place, _), caption in zip(some, said):
            gone = finding not in {one.finding for one in named_findings(caption.words)}
            yield Case((place,), finding, who[row], gone)

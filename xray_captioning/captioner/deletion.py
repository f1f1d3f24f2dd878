"""Deletion and insertion: what a captioner says as an image loses, or gains, the regions where it sees a finding."""

from typing import Any

import numpy as np

from xray_captioning.captioner.caption import Caption
from xray_captioning.captioner.evidence import METHODS, evidence_maps
from xray_captioning.captioner.studies import Study, arranged_studies, with_context
from xray_captioning.data.encoding import finding_probabilities
from xray_captioning.data.images import read_image
from xray_captioning.data.resizing import opencv
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.mentions import NamedFinding, named_findings


def deletion_curves(
    captioner: Any,
    study: Study,
    finding: str,
    method: str = "attention",
    steps: int = 14,
    views: Any = None,
    context: Any = None,
) -> dict[str, list[dict[str, Any]]]:
    """Blur the regions of a study one after the other, and let them appear in an image that is all blurred.

    Parameters
    ----------
    captioner : Captioner
    study, views, context
        Of one study, as :meth:`Captioner.caption` takes them of several.
    finding : str
        One that the caption of the study names.
    method : {"attention", "class activation", "gradient"}
        Whose order the regions have, the strongest first, in so many `steps`; the last changes all.

    Returns
    -------
    dict of str to list of dict
        ``deletion`` and ``insertion`` (Petsiuk et al., RISE, arXiv:1806.07421). Each has ``steps + 1`` rows: ``share``
        of the regions, from 0 to 1, ``caption``, ``named``, whether that names the finding, and ``probability`` that
        the encoder gives it, None if it does not know it.

    Raises
    ------
    ConfigError, DataError
        There is no such finding or method; the caption does not name the finding; or as :meth:`Captioner.caption`.
    """
    for name, known, what in ((finding, FINDINGS, "finding"), (method, METHODS, "method")):
        if name not in known:
            raise ConfigError(f"there is no {what} {name!r}; choose one of {', '.join(known)}")
    image, views = captioner.config.image, None if views is None else [views]
    placed = next(arranged_studies([study], image.views, views))
    pixels = [None if one is None else read_image(one, image.size, image.resize) for one in placed]
    blurred = [None if one is None else opencv().GaussianBlur(one, (0, 0), image.size / 8) for one in pixels]
    features, context = captioner.features([pixels], resized=True), None if context is None else [context]
    (caption,) = captioner.write_captions(features, 1, context=context)
    ((_, told),) = with_context([features], context, captioner.tokenizer, captioner.config)

    def has(said: Caption) -> list[NamedFinding]:
        return [one for one in named_findings(said.words) if one.finding == finding]

    if not (named := has(caption)):
        raise DataError(f"{finding}: the caption does not name it, but says {caption.text!r:.99}; name another finding")
    shares = evidence_maps(method, captioner, features, [caption], [(0, named[0])], told)[0, : len(pixels)]
    there = np.array([one is not None for one in pixels])
    shares[~there] = -1  # the regions of a view that is missing are no steps
    ranks = np.argsort(np.argsort(-shares, axis=None)).reshape(shares.shape)
    at = (np.arange(image.size) + 0.5) / image.size
    moves: Any = zip(captioner.offset, ranks.shape[1:])  # the region that sees a pixel gives it its rank
    y, x = (((at - moved) * n).astype(int).clip(0, n - 1) for moved, n in moves)
    ranks, parts = ranks[:, y[:, None], x[None]], np.linspace(0, 1, steps + 1)

    def curve(inside: list[Any], outside: list[Any]) -> list[dict[str, Any]]:
        views = list(zip(inside, outside, ranks[..., None] / shares[there].size))
        shown = [[one if one is None else np.where(r < part, one, other) for one, other, r in views] for part in parts]
        seen = captioner.features(shown, resized=True)
        said = captioner.write_captions(seen, 1, context=context and context * len(parts))
        known = finding_probabilities(captioner.encoder, *seen) if captioner.encoder.findings else [{}] * len(said)
        return [
            {"share": float(part), "caption": one.text, "named": bool(has(one)), "probability": row.get(finding)}
            for part, one, row in zip(parts, said, known)
        ]

    return {"deletion": curve(blurred, pixels), "insertion": curve(pixels, blurred)}

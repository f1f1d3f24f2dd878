"""Where findings are, on the grid of an encoder."""

from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.captioner.evidence import region_offset
from xray_captioning.config import Config
from xray_captioning.data import outlines, targets
from xray_captioning.data.features import Array
from xray_captioning.encoders import Encoder
from xray_captioning.errors import DataError


def outlined_cells(studies: Any, encoder: Encoder, config: Config) -> Array:
    """Return in which regions findings are outlined: (studies, regions, findings) bool; none at all is a DataError."""
    known, (rows, columns), image = outlines.read_outlines(studies), encoder.grid, config.image
    cells = np.zeros((len(studies), image.views, rows, columns, len(encoder.findings)), bool)
    offset = region_offset(encoder.encode, config, encoder.grid)
    for row, name, shown in zip(cells, studies["study_id"], targets.study_images(studies, config)):
        for view, path in enumerate(shown):
            for one in known.get((name, Path(path or "").name), []):
                seen = outlines.moved(outlines.seen_of(str(path), image.size, image.resize), offset)
                if one.finding in encoder.findings:
                    row[view, ..., encoder.findings.index(one.finding)] |= outlines.touched([one], encoder.grid, seen)
    if not cells.any():
        raise DataError("no finding is outlined on a training image; leave encoder_training.region_weight at 0")
    return cells.reshape(len(studies), -1, len(encoder.findings))

"""Names that several rooms share: findings (``findings.toml``), and baselines of comparisons."""

import tomllib
from pathlib import Path

_NAMES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
CHEXPERT: tuple[str, ...] = tuple(_NAMES["chexpert"])
NIH14: tuple[str, ...] = tuple(_NAMES["nih14"])
FINDINGS: tuple[str, ...] = CHEXPERT + tuple(_NAMES["indiana"])
NO_FINDING = "No Finding"

# Systems that see no image of a study, or only the features of one: see `evaluation.baselines`.
CONSTANT, MOST_FREQUENT, RANDOM = "constant", "most-frequent", "random"
RETRIEVAL, ORACLE, SHUFFLED = "retrieval", "label-oracle", "shuffled"

"""Names that several rooms share: findings (``findings.txt``), and baselines of comparisons."""

from pathlib import Path

_LINES = Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines()
CHEXPERT, _INDIANA, NIH14 = (tuple(line.split(", ")) for line in _LINES if line[0] != "#")
FINDINGS = CHEXPERT + _INDIANA
NO_FINDING = "No Finding"

# Systems that see no image of a study, or only the features of one: see `evaluation.baselines`.
CONSTANT, MOST_FREQUENT, RANDOM = "constant", "most-frequent", "random"
RETRIEVAL, ORACLE, SHUFFLED = "retrieval", "label-oracle", "shuffled"

# The public names and where each is: for type checkers, and for __init__.py to import late.
from typing import Final

from . import legacy as legacy
from . import runtime as runtime
from .captioner.caption import Caption as Caption
from .captioner.captioner import Captioner as Captioner
from .captioner.deletion import deletion_curves as deletion_curves
from .comparison.evaluate import evaluate as evaluate
from .config import Config as Config
from .config import load_preset as load_preset
from .data.sources.reading import read_studies as read_studies
from .data.splits import split_studies as split_studies
from .decoders import Decoder as Decoder
from .decoders.model import register_decoder as register_decoder
from .encoders import Encoder as Encoder
from .encoders.backbones import register_encoder as register_encoder
from .metrics.labeler import explain_report as explain_report
from .metrics.labeler import label_report as label_report
from .metrics.scores import score as score
from .phantom.dataset import write_phantoms as write_phantoms
from .text.cleaning import clean as clean
from .text.sections import split_report as split_report
from .text.tokenizer import Tokenizer as Tokenizer
from .training.captions import train as train
from .training.encoder import train_encoder as train_encoder

__version__: Final[str]

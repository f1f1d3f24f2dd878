"""GPT-2 with attention to the image added to every block."""

from __future__ import annotations

from typing import Any

from xray_captioning.decoders.transformer import Transformer


class Gpt2(Transformer):
    """GPT-2, each of whose blocks attends to the regions after it has attended to the words.

    Learned positions, normalisation before each sub-layer and at the end, GELU by a hyperbolic
    tangent, logits from the word vectors without a bias: where the cross-attention adds nothing,
    this is GPT-2. :func:`xray_captioning.decoders.language_model.load_language_model` fills it.

    References
    ----------
    .. [1] Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    .. [2] Rothe et al., arXiv:1907.12461 (cross-attention added to a pretrained GPT-2).
    """

    approximate_gelu = True
    logits_bias = False

    def __init__(self, vocabulary_size: int, **kwargs: Any) -> None:
        super().__init__(vocabulary_size, tied_embeddings=True, **kwargs)

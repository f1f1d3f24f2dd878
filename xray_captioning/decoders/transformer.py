"""Pre-norm Transformer blocks; in shapes, B is batch, T tokens, R regions, H heads, D channels of a head."""

from typing import Any

from xray_captioning.backend import keras, ops, registered
from xray_captioning.decoders.decoder import Features, State, WordDecoder, masked_softmax
from xray_captioning.decoders.recurrence import Words

Pair = tuple[Any, Any]  # keys and values, (B, H, S, D) each


@registered
class CachedAttention(keras.layers.Layer):
    """Multi-head attention (Vaswani et al., arXiv:1706.03762, section 3.2) whose keys and values can be kept."""

    def __init__(self, heads: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.width = heads, width
        names = ("query", "key", "value", "output")
        made = [keras.layers.Dense(width, name=name, dtype=self.dtype_policy) for name in names]
        self.query, self.key, self.value, self.output_layer = made

    def build(self, x_shape: Any, source_shape: Any) -> None:
        self.query.build(x_shape)
        self.key.build(source_shape)
        self.value.build(source_shape)
        self.output_layer.build(x_shape)

    def memory(self, source: Any, words: Words | None = None) -> Pair:
        """Return keys and values (B, H, S, D) of a source (B, S, channels), or rows of `words`."""
        return self._split(self.key(source), words), self._split(self.value(source), words)

    def call(self, x: Any, memory: Pair, mask: Any, words: Words | None = None) -> tuple[Any, Any]:
        """Attend from x (B, T, width), or rows of `words`, to a memory where ``mask`` (B or 1, T or 1, S) is True: the
        output, alike, and the float32 weights (B, T, S), their mean over heads.
        """
        keys, values = memory
        query = self._split(self.query(x), words) * (self.width // self.heads) ** -0.5
        weights = masked_softmax(ops.einsum("bhtd,bhsd->bhts", query, keys), mask[:, None])
        mixed = ops.einsum("bhts,bhsd->bthd", ops.cast(weights, values.dtype), values)
        mixed = ops.reshape(mixed, (-1, mixed.shape[1] or ops.shape(mixed)[1], self.width))
        mixed = words.rows(mixed) if words else mixed
        return self.output_layer(mixed), ops.mean(weights, axis=1)

    def _split(self, x: Any, words: Words | None) -> Any:
        x = ops.swapaxes(words.spread(x), 0, 1) if words else x
        # Heads come before time, so that a step reads the kept keys in the order of memory.
        x = ops.reshape(x, (-1, x.shape[1] or ops.shape(x)[1], self.heads, self.width // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))


@registered
class Block(keras.layers.Layer):
    """Self-attention, cross-attention, a feed-forward layer: each after a normalisation, before a dropout."""

    def __init__(self, heads: int, width: int, dropout: float, approximate_gelu: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.approximate_gelu = approximate_gelu
        dtype = self.dtype_policy.name
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-5, name=f"norm_{i}", dtype=dtype) for i in range(3)]
        self.self_attention = CachedAttention(heads, width, name="self_attention", dtype=dtype)
        self.cross_attention = CachedAttention(heads, width, name="cross_attention", dtype=dtype)
        self.expand = keras.layers.Dense(4 * width, name="expand", dtype=dtype)
        self.contract = keras.layers.Dense(width, name="contract", dtype=dtype)
        self.dropout = keras.layers.Dropout(dropout, dtype=dtype)

    def build(self, x_shape: Any, regions_shape: Any) -> None:
        for norm in self.norms:
            norm.build(x_shape)
        self.self_attention.build(x_shape, x_shape)
        self.cross_attention.build(x_shape, regions_shape)
        self.expand.build(x_shape)
        self.contract.build((*x_shape[:-1], 4 * x_shape[-1]))

    def past(self, x: Any, words: Words | None = None) -> Pair:
        """Return this block's self-attention keys and values of x (B, T, width), or rows."""
        return self.self_attention.memory(self.norms[0](x), words)

    def call(
        self, x: Any, past: Pair, past_mask: Any, image: Pair, image_mask: Any, training: Any = None, words: Any = None
    ) -> tuple[Any, Any]:
        """Return the block's output (B, T, width), or rows, and its weights (B, T, R)."""
        drop = self.dropout
        added, _ = self.self_attention(self.norms[0](x), past, past_mask, words=words)
        x = x + drop(added, training=training)
        added, weights = self.cross_attention(self.norms[1](x), image, image_mask, words=words)
        x = x + drop(added, training=training)
        inner = ops.gelu(self.expand(self.norms[2](x)), approximate=self.approximate_gelu)
        return x + drop(self.contract(inner), training=training), weights


@registered
class Transformer(WordDecoder):
    """Causal self-attention over the words, cross-attention to the regions (arXiv:1706.03762), a normalisation before
    each (arXiv:2002.04745). Keys and values of earlier words are kept in the state, so that a step costs the same
    however many there are. ``units`` is the width of the blocks, ``maximum_length`` the most tokens of a caption.
    """

    # The two choices in which GPT-2 differs.
    approximate_gelu = False
    logits_bias = True

    def __init__(
        self,
        vocabulary_size: int,
        units: int = 512,
        layers: int = 3,
        heads: int = 8,
        maximum_length: int = 60,
        dropout: float = 0.1,
        tied_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary_size, **kwargs)
        self.units, self.heads, self.maximum_length = units, heads, maximum_length
        dtype = self.dtype_policy.name
        self.add_embedding(units)
        self.position = keras.layers.Embedding(maximum_length, units, name="position", dtype=dtype)
        self.blocks = [
            Block(heads, units, dropout, self.approximate_gelu, name=f"block_{i}", dtype=dtype) for i in range(layers)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm", dtype=dtype)
        self.add_logits(dropout, tied_embeddings, self.logits_bias)

    def build(self, features_shape: Any, tokens_shape: Any = None) -> None:
        x_shape = (None, None, self.units)
        self.position.build((None,))
        for block in self.blocks:
            block.build(x_shape, features_shape[0])
        self.norm.build(x_shape)
        self.build_words(self.units)

    def start(self, features: Features) -> State:
        """Return the regions' keys and values of every block, and an empty past."""
        mask, images = ops.cast(features.mask, "bool"), self._images(features)
        batch = ops.shape(mask)[0]
        shape = (batch, self.heads, self.maximum_length, self.units // self.heads)
        empty = ops.zeros(shape, dtype=self.compute_dtype)
        return {
            "study": {"images": images, "mask": mask},
            "past": [(empty, empty) for _ in self.blocks],
            "lineage": ops.zeros((batch, self.maximum_length), dtype="bool"),
            "time": ops.zeros((batch,), dtype="int32"),
            "attention": ops.zeros_like(ops.cast(mask, "float32")),
        }

    def step(self, token: Any, state: State) -> tuple[Any, State]:
        """Read one token. The beams of a study are treated as words of one text, each of which attends only to the
        places of its own lineage; so the keys of the study's regions are read once for all beams.
        """
        study, place = state["study"], self._place(token, state)
        images, image_mask = study["images"], study["mask"][:, None]
        lineage = state["lineage"]
        lineage = ops.logical_or(lineage, ops.arange(ops.shape(lineage)[1]) == place[:, None])
        x = self.embedding(token) + self.position(state["time"])
        x, before = (ops.reshape(y, (ops.shape(image_mask)[0], -1, ops.shape(y)[1])) for y in (x, lineage))
        pasts = []
        for block, past, image in zip(self.blocks, state["past"], images):
            past = tuple(_written(*pair, place[0]) for pair in zip(past, block.past(x)))
            pasts.append(past)
            x, weights = block(x, past, before, image, image_mask)
        logits = self.logits(self.norm(x))
        return ops.reshape(logits, (-1, logits.shape[-1])), {
            **state,
            "past": pasts,
            "lineage": lineage,
            "time": state["time"] + 1,
            "attention": ops.reshape(weights, (-1, weights.shape[-1])),
        }

    def _place(self, token: Any, state: State) -> Any:
        # Where each row (rows,) keeps its present token in the past: all captions are equally long,
        # and the beams of a study use neighbouring places.
        rows = ops.shape(token)[0]
        captions = rows // ops.shape(state["past"][0][0])[0]
        return state["time"] * captions + ops.arange(rows) % captions

    def hidden(self, features: Features, tokens: Any, training: bool | None, packed: bool = False) -> Any:
        words = Words(tokens, packed=True) if packed else None
        time = tokens.shape[1] or ops.shape(tokens)[1]
        places = ops.arange(time)
        if words:
            features = Features(*map(words.sorted, features))
            time, places = ops.shape(words.counts)[0], words.time
            tokens = words.rows(words.sorted(tokens))
        # A batch may be padded beyond the longest caption that the positions allow.
        x = self.embedding(tokens) + self.position(ops.minimum(places, self.maximum_length - 1))
        x, causal = self.dropout(x, training=training), (ops.arange(time)[:, None] >= ops.arange(time)[None])[None]
        mask = ops.cast(features.mask, "bool")[:, None]
        for block, image in zip(self.blocks, self._images(features)):
            x, _ = block(x, block.past(x, words), causal, image, mask, training=training, words=words)
        return self.norm(x)

    def _images(self, features: Features) -> list[Pair]:
        regions = ops.cast(features.regions, self.compute_dtype)
        return [block.cross_attention.memory(regions) for block in self.blocks]


def _written(past: Any, new: Any, place: Any) -> Any:
    """Return a past (B, H, places, D) with what is new (B, H, captions, D) from a place on."""
    if past.shape[2] is not None:
        return ops.slice_update(past, (0, 0, place, 0), new)
    # An exported graph, which serves any number of beams: no format knows the update of a slice.
    return ops.concatenate([past[:, :, :place], new, past[:, :, place + ops.shape(new)[2] :]], axis=2)


@registered
class Gpt2(Transformer):
    """GPT-2 (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019), where the cross-attention to
    the regions, added to each block as in Rothe et al., arXiv:1907.12461, adds nothing: learned positions, GELU by a
    hyperbolic tangent, logits from the word vectors without a bias;
    :func:`xray_captioning.decoders.language_model.load_language_model`.
    """

    approximate_gelu = True
    logits_bias = False

    def __init__(self, vocabulary_size: int, **kwargs: Any) -> None:
        super().__init__(vocabulary_size, tied_embeddings=True, **kwargs)

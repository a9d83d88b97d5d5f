"""The whole model: encoder, bridge, decoder, output layer, initialisation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.cells import CELLS
from seq2seq.config import BOS_ID, ModelConfig
from seq2seq.decoder import Decoder, DecoderState
from seq2seq.encoder import Encoded, Encoder, reversed_positions
from seq2seq.recurrence import StackState, drop


class Bridge(nn.Module):
    """The encoder's final states start the decoder: each part (h, c) of each layer by its own map.

    Layers are paired from the top down, so the encoder's top layer is always heard; where the encoder has fewer layers,
    its bottom one starts all decoder layers that are left.

    Args:
        config: that of the model. `bridge` says whether the states are copied as they are, go through a linear map for
            each layer and part, or are replaced by zeros.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.bridge
        self.hidden_size = config.decoder_hidden_size
        self.layers = config.decoder_layers
        self.state_parts = CELLS[config.cell].state_parts
        # Layer by layer, and within a layer part by part.
        count = self.layers * self.state_parts if self.kind == "linear" else 0
        self.maps = nn.ModuleList(nn.Linear(config.annotation_size, self.hidden_size) for _ in range(count))

    def forward(self, final: StackState) -> StackState:
        """From the encoder's states, parts of `[batch, annotation]`, to the decoder's, parts of `[batch, hidden]`."""
        above = len(final) - self.layers
        start = [final[max(layer + above, 0)] for layer in range(self.layers)]
        if self.kind == "copy":
            return tuple(start)
        if self.kind == "zero":
            return tuple(tuple(part.new_zeros(len(part), self.hidden_size) for part in layer) for layer in start)
        return tuple(
            tuple(self.maps[index * self.state_parts + which](part) for which, part in enumerate(layer))
            for index, layer in enumerate(start)
        )


class Seq2Seq(nn.Module):
    """A recurrent encoder-decoder.

    Sources and targets are rows of token ids that end with `<E>` and are padded with `<pad>`; their lengths count `<E>`
    (those that a search is given do not). `<S>` is added in here.

    Args:
        config: sizes and options; see `ModelConfig`.

    Example:
        >>> model = Seq2Seq(ModelConfig(source_vocabulary_size=9, target_vocabulary_size=9))
        >>> encoded = model.encode(source, source_lengths)
        >>> log_probs, state = model.step(tokens, model.start(encoded))

    Reference:
        Sutskever, Vinyals & Le (2014), arXiv:1409.3215; Bahdanau, Cho & Bengio (2015), arXiv:1409.0473; Luong, Pham &
        Manning (2015), arXiv:1508.04025; Wu et al. (2016), arXiv:1609.08144.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.bridge = Bridge(config)
        self.decoder = Decoder(config)
        tied = config.tied_embeddings != "none"
        bottleneck = config.embedding_size if tied else config.bottleneck_size
        self.bottleneck = None if bottleneck is None else nn.Linear(self.decoder.feature_size, bottleneck)
        self.output = nn.Linear(bottleneck or self.decoder.feature_size, config.target_vocabulary_size)
        self.initialise()
        if tied:
            self.output.weight = self.decoder.embedding.weight
        if config.tied_embeddings == "all":
            self.encoder.embedding.weight = self.decoder.embedding.weight

    def initialise(self) -> None:
        """Linear maps and embeddings by the configured rule, biases and `<pad>` 0; cells see to their own."""
        limit = self.config.uniform_range
        for module in self.modules():
            if not isinstance(module, nn.Linear | nn.Embedding):
                continue
            if limit is not None:
                nn.init.uniform_(module.weight, -limit, limit)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding):
                with torch.no_grad():
                    module.weight[module.padding_idx] = 0.0

    def encode(self, source: Int[Tensor, "batch steps"], source_lengths: Int[Tensor, "batch"]) -> Encoded:
        """Read the source once, for any number of decoder steps."""
        encoded: Encoded = self.encoder(source, source_lengths)
        return encoded

    def start(self, encoded: Encoded) -> DecoderState:
        """The decoder's state before `<S>`, one row per sentence."""
        return self.decoder.start(encoded, self.bridge(encoded.state))

    def step(
        self, tokens: Int[Tensor, "rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows vocabulary"], DecoderState]:
        """One token for every row: log-probabilities (nats) of the next one, and the next state."""
        features, state = self.decoder.step(tokens, state)
        return self.log_probs(features), state

    def forward(
        self,
        source: Int[Tensor, "batch source_steps"],
        source_lengths: Int[Tensor, "batch"],
        target: Int[Tensor, "batch target_steps"],
    ) -> Float[Tensor, "batch target_steps vocabulary"]:
        """Logits of every target token given the true ones before it (teacher forcing), all steps at once."""
        return self.classify(self.features(source, source_lengths, target))

    def features(
        self,
        source: Int[Tensor, "batch source_steps"],
        source_lengths: Int[Tensor, "batch"],
        target: Int[Tensor, "batch target_steps"],
    ) -> Float[Tensor, "batch target_steps features"]:
        """What `classify` turns into logits; a loss that skips padding selects rows in between."""
        return self.read(target, self.start(self.encode(source, source_lengths)))

    def read(
        self, target: Int[Tensor, "batch target_steps"], start: DecoderState
    ) -> Float[Tensor, "batch target_steps features"]:
        """The same from what `start` gave, which the decoder leaves as it is."""
        features: Tensor = self.decoder(shift_right(target), start).features
        return features

    def log_probs(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows vocabulary"]:
        """Log-probabilities (nats) of every token."""
        return log_softmax(self.classify(features))

    def classify(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows vocabulary"]:
        """Bottleneck, dropout and output layer: logits."""
        logits: Tensor = self.output(self.output_features(features))
        return logits

    def output_features(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows bottleneck"]:
        """What the output layer reads: the features through the bottleneck (if any), after dropout."""
        if self.bottleneck is not None:
            features = self.bottleneck(features).tanh()
        return drop(features, self.config.output_dropout, self.training)

    def attend(
        self,
        source: Int[Tensor, "batch source_steps"],
        source_lengths: Int[Tensor, "batch"],
        target: Int[Tensor, "batch target_steps"],
    ) -> Float[Tensor, "batch target_steps source_steps"] | None:
        """Attention weights of a known target, over the source in its given order; `None` without attention."""
        state = self.start(self.encode(source, source_lengths))
        attention: Tensor | None = self.decoder(shift_right(target), state).attention
        if attention is not None and self.config.reverse_source:
            positions = reversed_positions(source_lengths, source.shape[1])
            attention = attention.gather(2, positions.unsqueeze(1).expand_as(attention))
        return attention

    def parts(self) -> Iterator[tuple[str, int]]:
        """Name and number of parameters of each part; shared ones are counted where they stand first."""
        seen: set[int] = set()
        for name, part in self.named_children():
            fresh = [weight for weight in part.parameters() if id(weight) not in seen]
            seen.update(id(weight) for weight in fresh)
            yield name, sum(weight.numel() for weight in fresh)


def log_softmax(logits: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows vocabulary"]:
    """Log-probabilities (nats) in at least float32: bfloat16 would round them to two or three digits."""
    return logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def shift_right(target: Int[Tensor, "batch steps"]) -> Int[Tensor, "batch steps"]:
    """Decoder inputs for a target: `<S>` first, the last token left out."""
    start = target.new_full((target.shape[0], 1), BOS_ID)
    return torch.cat([start, target[:, :-1]], dim=1)

"""What a model is built from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seq2seq.config.base import FIRST_FREE_ID, Layers, Probability, Size, refuse_idle
from seq2seq.config.recurrence import RecurrenceConfig


class ModelConfig(RecurrenceConfig):
    """What `Seq2Seq` is built from; stored beside its weights.

    Sizes are in units (features), dropouts are probabilities of zeroing, in training alone.
    """

    source_vocabulary_size: Annotated[int, Field(gt=FIRST_FREE_ID)]
    """Tokens of the source vocabulary, the four special ones included: `len(vocabulary)`."""
    target_vocabulary_size: Annotated[int, Field(gt=FIRST_FREE_ID)]
    """The same of the target vocabulary."""
    embedding_size: Size = 256
    """Features of a token's embedding, on both sides."""
    encoder_layers: Layers = 2
    """Recurrent layers of the encoder, one on top of the other."""
    encoder_hidden_size: Size = 256
    """Units of each encoder layer, per direction."""
    bidirectional: bool = True
    """The encoder reads both ways, and its annotations are twice as wide (Schuster & Paliwal 1997)."""
    decoder_layers: Layers = 2
    """Recurrent layers of the decoder: attention comes after the first, or with `input_feeding` after the last."""
    decoder_hidden_size: Size = 512
    """Units of each decoder layer."""
    residual: bool = False
    """Add a layer's input to its output from layer 2 on (Wu et al. 2016). A context that joins the input is not
    added."""
    bridge: Literal["copy", "linear", "zero"] = "linear"
    """How the encoder's final states start the decoder. `copy`: as they are; `linear`: by a map for each layer and part
    (h, c); `zero`: not at all."""
    attention: Literal["none", "dot", "general", "additive", "multi_head", "multi_head_additive"] = "general"
    """`dot`, `general` (Luong et al. 2015), `additive` (Bahdanau et al. 2015), `multi_head` (Vaswani et al. 2017),
    `multi_head_additive` (Chen et al. 2018), or `none`: the fixed vector of Sutskever et al. (2014)."""
    attention_heads: Size = 4
    """Attentions side by side; used by the two `multi_head` kinds alone."""
    input_feeding: bool = False
    """The step-by-step decoder of Luong et al. (2015): the previous attentional vector joins the next input."""
    output_attention: bool = False
    """A second attention, from the top decoder layer to the softmax. Its weights are what alignments and the coverage
    penalty see. On Multi30k it brings as much as input feeding, without a loop over the steps: recipes/README.md."""
    tied_embeddings: Literal["none", "decoder", "all"] = "decoder"
    """`decoder`: output layer = target embedding; `all`: the source embedding too, which takes one joint vocabulary
    (Press & Wolf 2017, arXiv:1608.05859)."""
    bottleneck_size: Size | None = None
    """Features between the decoder and the softmax; `None`: `embedding_size` if tied, otherwise no bottleneck."""
    reverse_source: bool = False
    """Read the source backwards, `<E>` still last (Sutskever et al. 2014)."""
    source_word_dropout: Probability = 0.0
    """Zero whole embeddings that the encoder reads, each place on its own (Sennrich et al. 2016, arXiv:1606.02891)."""
    target_word_dropout: Probability = 0.0
    """The same for those that the decoder reads."""
    embedding_dropout: Probability = 0.0
    """Zero single features of the embeddings that encoder and decoder read."""
    hidden_dropout: Probability = 0.0
    """Between the layers of encoder and decoder, and on the encoder's annotations."""
    output_dropout: Probability = 0.0
    """Before the softmax."""

    @model_validator(mode="after")
    def check(self) -> Self:
        decoder, encoder = self.decoder_hidden_size, self.annotation_size
        is_multi_head = self.attention.startswith("multi_head")
        refuse_idle(self, {"attention_heads": (not is_multi_head, "a multi_head attention")})
        if is_multi_head and (decoder % self.attention_heads or encoder % self.attention_heads):
            raise ValueError(
                "attention_heads must divide decoder_hidden_size and the width of the annotations, "
                f"got {self.attention_heads}, {decoder} and {encoder}; 4 and 8 are usual"
            )
        if self.attention == "dot" and encoder != decoder:
            raise ValueError(
                "attention='dot' needs annotations as wide as the decoder, "
                f"got {encoder} and {decoder}; use 'general' or equal sizes"
            )
        if self.attention == "none" and (self.input_feeding or self.output_attention):
            raise ValueError(
                "input_feeding and output_attention need an attention, got attention='none'; choose 'general'"
            )
        if self.attention == "none" and self.bridge == "zero":
            raise ValueError(
                "a decoder must see the source, got attention='none' and bridge='zero'; choose bridge='linear'"
            )
        if self.input_feeding and self.output_attention:
            raise ValueError(
                "input_feeding already attends from the top layer, got output_attention=True too; choose one"
            )
        if self.tied_embeddings == "all" and self.source_vocabulary_size != self.target_vocabulary_size:
            raise ValueError(
                "tied_embeddings='all' needs one joint vocabulary, got sizes "
                f"{self.source_vocabulary_size} and {self.target_vocabulary_size}; use 'decoder' or train one jointly"
            )
        if self.tied_embeddings != "none" and self.bottleneck_size not in (None, self.embedding_size):
            raise ValueError(
                "tied embeddings need bottleneck_size = embedding_size, "
                f"got {self.bottleneck_size} and {self.embedding_size}; leave bottleneck_size out"
            )
        if self.variational_dropout and not (self.embedding_dropout or self.hidden_dropout):
            raise ValueError(
                "variational_dropout needs embedding_dropout or hidden_dropout, got 0 for both; set one of them"
            )
        if self.hidden_dropout and self.attention == "none" and self.encoder_layers == self.decoder_layers == 1:
            raise ValueError(
                "hidden_dropout needs several layers or annotations to act on, got "
                f"{self.hidden_dropout}, one layer each and attention='none'; use output_dropout"
            )
        if self.residual and self.encoder_layers == self.decoder_layers == 1:
            raise ValueError(
                "residual adds a layer's input to its output from layer 2 on, got one layer each; leave it out"
            )
        if self.bridge == "copy" and encoder != decoder:
            raise ValueError(
                "bridge='copy' needs an encoder (both directions) as wide as the decoder, "
                f"got {encoder} and {decoder}; use 'linear'"
            )
        return self

    @property
    def annotation_size(self) -> int:
        """Features of one annotation: both directions of the encoder's top layer."""
        return self.encoder_hidden_size * (2 if self.bidirectional else 1)

    @property
    def uniform_range(self) -> float | None:
        """`init_range` where it is used."""
        return self.init_range if self.initialisation == "uniform" else None

    @property
    def residual_from(self) -> int | None:
        """The first layer of a stack, counted from 0, whose input is added to its output."""
        return 1 if self.residual else None

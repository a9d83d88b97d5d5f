"""One or more models that agree on the next token: what a translator computes with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, cast, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import EOS_ID, PAD_ID
from seq2seq.decoder import DecoderState
from seq2seq.errors import ConfigError
from seq2seq.lexicon import Lexicon
from seq2seq.package import Package
from seq2seq.search import EnsembleState, Mean, Step, ensemble_step, mean_distribution
from seq2seq.translator.choice import Choice, OwnedState, Tail, step_among, step_among_all
from seq2seq.translator.layout import lay_out, output_columns

Sources = Sequence[tuple[list[int], ...]]
"""The ids of each text for each model of an ensemble."""

LARGEST_TABLE = 1 << 26
"""Numbers in the table of one model; 256 MiB in float32."""

SCORED_AT_ONCE = 4_000_000
"""Log-probabilities held at once while given translations are scored."""


class Ensemble:
    """Models of one target vocabulary. Their source vocabularies and architectures may differ.

    Args:
        packages: one or more.
        mean: how the distributions of several models become one.

    Raises:
        ConfigError: if the target vocabularies are not the same.
    """

    def __init__(self, packages: Sequence[Package], mean: Mean = "probabilities") -> None:
        if mean not in get_args(Mean):
            raise ConfigError(f"mean must be one of {', '.join(get_args(Mean))}, got {mean!r}")
        first, *others = packages
        for number, other in enumerate(others, start=2):
            mine, its = first.target_vocabulary, other.target_vocabulary
            if mine.fingerprint != its.fingerprint:
                raise ConfigError(
                    "the models of an ensemble must have the same target vocabulary, got one of "
                    f"{len(mine):,} tokens ({mine.fingerprint[:8]}) in model 1 and one of {len(its):,} "
                    f"({its.fingerprint[:8]}) in model {number}; train them with one vocabulary"
                )
        self.packages = tuple(packages)
        self.models = [package.model for package in packages]
        for model in self.models:
            lay_out(model)
        self.mean: Mean = mean
        self.expected_steps = 0
        self.target_vocabulary = first.target_vocabulary
        self.versions: list[tuple[int, int]] = []
        self.refresh()

    @property
    def device(self) -> torch.device:
        """Where the models compute."""
        return next(self.models[0].parameters()).device

    @property
    def attending(self) -> list[Package]:
        """The models that have an attention."""
        return [package for package in self.packages if package.config.attention != "none"]

    @property
    def lexicons(self) -> list[tuple[int, Lexicon]]:
        """The lexicons that there are, each with the number of its model."""
        found = ((number, package.lexicon) for number, package in enumerate(self.packages))
        return [(number, lexicon) for number, lexicon in found if lexicon is not None]

    def refresh(self) -> None:
        """Take the models as they are now: what was made of weights that have changed since is made anew."""
        for model in self.models:
            model.eval()
        weights = [weight for model in self.models for weight in model.parameters()]
        # Torch counts the changes of a tensor, but for those made for inference alone.
        versions = [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights]
        if versions != self.versions:
            self.versions = versions
            for made in ("columns", "tails"):
                self.__dict__.pop(made, None)
            for model in self.models:
                model.decoder.token_gates = None

    @cached_property
    def columns(self) -> list[Float[Tensor, "features vocabulary"]]:
        """The output weights of every model."""
        return [output_columns(model) for model in self.models]

    @cached_property
    def tails(self) -> list[Tail]:
        """Of every model, over the tokens that a lexicon has to name before they may be said."""
        is_rare = torch.ones(len(self.target_vocabulary), dtype=torch.bool)
        for _, lexicon in self.lexicons:
            is_rare[lexicon.always.long()] = False
        if not is_rare.any():
            is_rare[:] = True
        return [Tail.of(model.output, is_rare.to(self.device)) for model in self.models]

    def encode(self, texts: Sequence[str]) -> list[tuple[list[int], ...]]:
        """The ids of each text for each model."""
        rows = [package.source_vocabulary.encode(texts) for package in self.packages]
        return list(zip(*rows, strict=True))

    def choose(self, sources: Sources, count: int | None, demanded: Sequence[Collection[int]]) -> Choice:
        """What the translations of a batch may be made of.

        Args:
            sources: the ids of each text.
            count: candidates of each of its tokens by each lexicon; `None`: any token may be said.
            demanded: ids that each translation may have whatever the lexicons say.
        """
        size = len(self.target_vocabulary)
        if count is None:
            return Choice.of_all(size, self.device)
        allowed = torch.zeros(len(sources), size, dtype=torch.bool)
        for number, lexicon in self.lexicons:
            allowed |= lexicon.allowed([source[number] for source in sources], count, size)
        for row, ids in zip(allowed, demanded, strict=True):
            row[list(ids)] = True
        return Choice.of(allowed, self.device)

    def begin(self, sources: Sources, choice: Choice) -> tuple[Step[EnsembleState], EnsembleState]:
        """A step function over the tokens of a choice, by their local ids, and the state before the first of them."""
        state = self.start(sources)
        if choice.allowed is None:
            return self.step, state
        owners = torch.arange(len(sources), device=self.device)
        owned = (OwnedState(cast(DecoderState, member), owners) for member in state.members)
        steps: list[Step[Any]] = [
            step_among(*part, choice) for part in zip(self.models, self.columns, self.tails, strict=True)
        ]
        return ensemble_step(steps, self.mean), EnsembleState(tuple(owned))

    def expect(self, steps: int) -> None:
        """Prepare for about this many steps, each of one row. When as many have been expected as there are tokens, it
        pays off to compute every token's gates once and for all."""
        self.refresh()
        self.expected_steps += steps
        if self.expected_steps < len(self.target_vocabulary):
            return
        for decoder in (model.decoder for model in self.models):
            if decoder.token_gates is None and decoder.table_size <= LARGEST_TABLE:
                decoder.tabulate_tokens()

    def start(self, sources: Sources) -> EnsembleState:
        """The models' states before the first token, one row per source."""
        states = []
        for model, rows in zip(self.models, zip(*sources, strict=True), strict=True):
            source, lengths = self.pad(rows)
            states.append(model.start(model.encode(source, lengths)))
        return EnsembleState(tuple(states))

    def step(
        self, tokens: Int[Tensor, "rows"], state: EnsembleState
    ) -> tuple[Float[Tensor, "rows vocabulary"], EnsembleState]:
        """One token for every row: log-probabilities (nats) of the next one, and the next state."""
        members = zip(self.models, self.columns, strict=True)
        return ensemble_step([step_among_all(*member) for member in members], self.mean)(tokens, state)

    def attend(self, sources: Sources, targets: Sequence[list[int]]) -> list[list[Tensor]]:
        """The attention of every model that has one, to each of its sources, from given targets.

        Returns:
            For each target a tensor per model, [target tokens, source tokens], both with their `<E>`.
        """
        target, target_lengths = self.pad(targets)
        found: list[list[Tensor]] = [[] for _ in targets]
        for model, rows in zip(self.models, zip(*sources, strict=True), strict=True):
            source, lengths = self.pad(rows)
            weights = model.attend(source, lengths, target)
            if weights is not None:
                sizes = zip(weights.float().cpu(), target_lengths.tolist(), lengths.tolist(), strict=True)
                for kept, (row, steps, source_steps) in zip(found, sizes, strict=True):
                    kept.append(row[:steps, :source_steps])
        return found

    def log_probs(self, sources: Sources, targets: Sequence[list[int]]) -> list[list[float]]:
        """The log-probability of every token of given targets, and last of `<E>`."""
        self.refresh()
        target, target_lengths = self.pad(targets)
        is_token = target != PAD_ID
        features = [
            model.features(*self.pad(rows), target)[is_token]
            for model, rows in zip(self.models, zip(*sources, strict=True), strict=True)
        ]
        # [tokens] of all targets, in order; the whole vocabulary is held for a part of them at a time.
        size = max(1, SCORED_AT_ONCE // len(self.target_vocabulary))
        chosen = []
        for tokens, *parts in zip(target[is_token].split(size), *(part.split(size) for part in features), strict=True):
            classified = zip(self.models, parts, strict=True)
            log_probs = mean_distribution([model.log_probs(part) for model, part in classified], self.mean)
            chosen.append(log_probs.gather(1, tokens[:, None]).squeeze(1))
        return [part.tolist() for part in torch.cat(chosen).split(target_lengths.tolist())]

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "rows steps"], Int[Tensor, "rows"]]:
        """Rows of ids with `<E>` at their ends, padded, and their lengths with it."""
        lengths = [len(row) + 1 for row in rows]
        padded = [
            [*row, EOS_ID, *[PAD_ID] * (max(lengths) - length)] for row, length in zip(rows, lengths, strict=True)
        ]
        return torch.tensor(padded, device=self.device), torch.tensor(lengths, device=self.device)

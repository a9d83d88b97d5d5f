"""How a model is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from seq2seq.config.base import Config, Count, Precision, Probability, Size, refuse_idle


def tokens_or_auto(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One sentence instead of pydantic's for each of the types that it may have."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError(f"batch_tokens must be a number of at least 1, or 'auto', got {value!r}") from None


class TrainingConfig(Config):
    """How a model is trained. A step is one of the optimiser; it takes `accumulate` batches on each process."""

    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 1
    """Decides the first weights, the order of the pairs, and what dropout and sampling draw."""
    max_epochs: Size = 10
    """Readings of the training corpus, at most; `early_stopping` may end it sooner."""
    batch_tokens: Annotated[Size | Literal["auto"] | None, WrapValidator(tokens_or_auto)] = 4000
    """Tokens of a batch: its pairs times its longest side, source or target, padding and `<E>` included; a single pair
    may be longer. `auto`: the most that the device's memory holds, found when a training begins, as long as an epoch
    keeps a hundred steps."""
    batch_sentences: Size | None = None
    """Instead of `batch_tokens`: pairs of a batch."""
    accumulate: Size = 1
    """Batches of one step on each process; the loss is the mean over all their target tokens, as if they were one
    batch."""
    precision: Precision = "float32"
    """What products are computed in, recurrent ones included, and with them the gates and states of the recurrence: in
    bfloat16 a forget gate above 0.998 is 1. Weights, optimiser, softmax and loss stay in float32."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), Adam (Kingma & Ba 2015, arXiv:1412.6980), or plain gradient
    descent without momentum."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The rate at the end of the warm-up, before `schedule` lowers it."""
    betas: tuple[Probability, Probability] = (0.9, 0.98)
    """Adam's: what its running means of the gradient and of its square keep of themselves at each step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """`adamw`: every weight loses this share of itself, times the learning rate, at each step. `adam` and `sgd`: this
    many times the weight joins its gradient, after clipping. Biases and embeddings are no exception."""
    schedule: Literal["constant", "inverse_sqrt", "cosine", "plateau", "halving"] = "constant"
    """The rate after the warm-up. `constant`: as it is; `inverse_sqrt`: falling with 1 / sqrt(step) (Vaswani et al.
    2017); `cosine`: half a cosine that comes to `min_learning_rate` right after the last step (Loshchilov & Hutter
    2017); `plateau`: lowered whenever validation stops improving, where those in the warm-up do not count; `halving`:
    halved at regular times (Luong et al. 2015)."""
    warmup_steps: Count = 0
    """Steps in which the rate rises linearly, with every schedule: the first one already has `learning_rate` /
    `warmup_steps`, the last one all of it."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """What `plateau` multiplies the rate by."""
    plateau_patience: Annotated[int, Field(ge=0)] = 1
    """`plateau` lets this many validations in a row without a better score pass; the next one lowers the rate."""
    halving_start: Annotated[float, Field(ge=0)] = 5.0
    """When `halving` first halves the rate, in `halving_unit`; epochs may be fractions."""
    halving_interval: Annotated[float, Field(ge=1e-6)] = 1.0
    """After how long `halving` does so again, each time."""
    halving_unit: Literal["epochs", "steps"] = "epochs"
    """What `halving_start` and `halving_interval` count, from the beginning of the training."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """`plateau`, `cosine` and `halving` never lower the rate below this."""
    label_smoothing: Probability = 0.0
    """The share of the probability that the training target spreads evenly over the whole vocabulary (Szegedy et al.
    2016, arXiv:1512.00567); 0.1 is usual."""
    dropout_start: Count = 0
    """Late dropout: the steps before dropout of any kind, and R-Drop, set in. A model that knows nothing yet learns
    faster without, and cannot overfit (Liu et al. 2023, arXiv:2303.01500)."""
    r_drop: Annotated[float, Field(ge=0)] = 0.0
    """R-Drop's alpha: read every pair twice, under two dropouts, and punish that the two disagree; 5 is usual (Wu et
    al. 2021, arXiv:2106.14448)."""
    subword_sampling: Annotated[float, Field(gt=0, le=1)] | None = None
    """Divide the training texts into tokens anew in every epoch, at random: for unigram vocabularies the exponent alpha
    (0.1 to 0.5 are usual, small is wild; Kudo 2018, arXiv:1804.10959), for bpe the probability of leaving out a merge
    (0.1 is usual; Provilkov et al. 2020, arXiv:1910.13267). `None`: always the best division."""
    teacher_forcing: Literal["always", "linear", "exponential", "inverse_sigmoid"] = "always"
    """What the decoder reads in training: always the true tokens, or ever more of its own, as this decay says
    (scheduled sampling, Bengio et al. 2015, arXiv:1506.03099)."""
    teacher_forcing_half: Size = 10_000
    """The step at which half of the tokens are still true ones."""
    teacher_forcing_floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of true tokens never falls below this."""
    sampled_inputs: Literal["parallel", "loop"] = "parallel"
    """How the model's own tokens are drawn: in two passes over the whole target (Mihaylova & Martins 2019,
    arXiv:1906.07651), or step by step, which is slow."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """A gradient, of all weights together, that is longer than this is scaled down to it (Pascanu et al. 2013,
    arXiv:1211.5063); `None`: any length is taken."""
    clip_value: Annotated[float, Field(gt=0)] | None = None
    """Instead of `clip_norm`: each number of the gradient is cut off at plus and minus this."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Validate and save an exponential moving average of the weights, which keeps this share of itself at each step,
    less at first (Polyak & Juditsky 1992); `None`: the weights themselves."""
    average_models: Annotated[int, Field(ge=2)] | None = None
    """Keep this many models, and write their mean at the end if it validates better than the best one; `None`: no
    mean."""
    average_of: Literal["best", "last"] = "best"
    """Which models are kept for the mean."""
    freeze: tuple[Literal["embeddings", "encoder", "bridge", "attention", "decoder", "output"], ...] = ()
    """Parts whose weights stay as they are; `encoder` and `decoder` include embeddings, `decoder` the attention."""
    monitor: Literal["bleu", "loss", "exact_match"] = "bleu"
    """What chooses the best model, moves the plateau and stops early."""
    bleu_tokenize: str | None = None
    """sacrebleu's tokenizer for validation's BLEU, such as `zh` or `ja-mecab`: whole sentences in a script without
    spaces are seldom equal. `None`: `13a`."""
    validate_every_steps: Size | None = None
    """Validate after so many steps, again and again: for corpora whose epochs take hours, or seconds. There is one more
    at the training's end, which may find the best model but moves no plateau. `None`: at the end of every epoch."""
    early_stopping: Size | None = None
    """The training ends when this many validations in a row, those in the warm-up aside, have not brought a better
    score; `None`: not before `max_epochs`."""
    max_skipped_steps: Size = 10
    """Steps with a loss or gradient that is not finite are skipped; this many in a row end the training."""
    save_every_steps: Size | None = None
    """Steps between two saved states of the training; besides, the first and last step of every epoch is saved, and the
    ones around a validation. `None`: only these, and by `save_every_minutes`."""
    save_every_minutes: Annotated[float, Field(gt=0)] | None = 10.0
    """The same in minutes; whichever comes first."""

    @model_validator(mode="after")
    def check(self) -> Self:
        if (self.batch_tokens is None) == (self.batch_sentences is None):
            raise ValueError(
                "give either batch_tokens or batch_sentences, "
                f"got {self.batch_tokens} and {self.batch_sentences}; set the other to None"
            )
        if self.schedule == "inverse_sqrt" and self.warmup_steps == 0:
            raise ValueError("schedule='inverse_sqrt' needs warmup_steps of at least 1, got 0; 4000 is usual")
        self._check_idle()
        if self.schedule == "plateau" and self.early_stopping is not None:
            fewest = self.plateau_patience + 2
            if self.early_stopping < fewest:
                raise ValueError(
                    f"a training that stops early never lowers its rate, got early_stopping={self.early_stopping} and "
                    f"plateau_patience={self.plateau_patience}; use early_stopping={fewest} or more"
                )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                "min_learning_rate must be at most learning_rate, "
                f"got {self.min_learning_rate} and {self.learning_rate}"
            )
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError(
                f"clip by norm or by value, got clip_norm={self.clip_norm} and clip_value={self.clip_value}; "
                "set one of them to None"
            )
        return self

    def _check_idle(self) -> None:
        """Refuse what would silently do nothing."""
        sampled = (self.teacher_forcing == "always", "a teacher_forcing other than 'always'")
        plateau = (self.schedule != "plateau", "schedule='plateau'")
        halving = (self.schedule != "halving", "schedule='halving'")
        refuse_idle(
            self,
            {
                "betas": (self.optimizer == "sgd", "optimizer 'adam' or 'adamw'"),
                "plateau_factor": plateau,
                "plateau_patience": plateau,
                "halving_start": halving,
                "halving_interval": halving,
                "halving_unit": halving,
                "min_learning_rate": (
                    self.schedule in ("constant", "inverse_sqrt"),
                    "schedule 'plateau', 'cosine' or 'halving'",
                ),
                "teacher_forcing_half": sampled,
                "teacher_forcing_floor": sampled,
                "sampled_inputs": sampled,
                "average_of": (self.average_models is None, "average_models"),
            },
        )

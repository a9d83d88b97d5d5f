"""A whole training: from configurations and data to a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, seed_everything

from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.data import ParallelDataModule
from seq2seq.errors import ConfigError
from seq2seq.training.alone import alone_in
from seq2seq.training.averaging import KeepModels, validate_average
from seq2seq.training.batch_size import check_batch_tokens, settle
from seq2seq.training.callbacks import KeepBest
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.continuing import WANDB_ID, Begin, check_folder, comparable, left_by_another, look_for_state
from seq2seq.training.endings import explained
from seq2seq.training.engine import build_callbacks, build_trainer, choose_engine, quieten
from seq2seq.training.keeping import KeepState
from seq2seq.training.loggers import build_loggers, check_wandb, close
from seq2seq.training.metrics_file import MetricsFile
from seq2seq.training.module import GREEDY, TranslationModule
from seq2seq.training.processes import in_first_process, is_first_process, say
from seq2seq.training.start import start_from
from seq2seq.training.vectors import start_with_vectors


def train(
    model: ModelConfig,
    training: TrainingConfig,
    data: ParallelDataModule,
    out: Path,
    *,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    epochs: int | None = None,
    restart: bool = False,
    start: Path | None = None,
    source_vectors: Path | None = None,
    target_vectors: Path | None = None,
    search: SearchConfig = GREEDY,
    callbacks: Sequence[Callback] = (),
    languages: tuple[str, str] = ("", ""),
    wandb: str | None = None,
    smoke: bool = False,
) -> Path:
    """Train a model and keep the one that validates best as a model folder.

    Called again with the same arguments it goes on with an unfinished training from its last saved state, in the middle
    of an epoch too, and does nothing for a finished one.

    Args:
        model, training: what is trained, and how.
        data: training and validation pairs.
        out: the model folder; `log/metrics.csv` and the saved states (`checkpoints`) lie in it too.
        device: auto, cpu, gpu (or cuda), mps.
        devices, nodes: processes of each machine, and machines, that train together (DDP).
        epochs: instead of `training.max_epochs`. A finished training goes on with more of them, and is then the longer
            one (with the validation that ended it besides, where validation is by steps); not where its rate has fallen
            towards the last epoch, its models were averaged, or it stopped early.
        restart: start over; states, log and kept models (`models/step_N`) of the training in `out` are removed.
        start: a model folder of the same configuration and vocabularies whose weights to begin with.
        source_vectors, target_vectors: files of word vectors for embeddings to begin with; see `vectors`.
        search: how validation translates.
        callbacks: what else watches, as `diagnostics.GradientFlow`. What they keep of themselves for a training that
            goes on (`state_dict`) is made of numbers, texts, lists, dictionaries and tensors.
        languages: names of source and target language, for the folder's metadata.
        wandb: a project of Weights & Biases to log to as well.
        smoke: two batches and one validation batch only, to see that everything works; nothing to go on from is saved.

    Raises:
        ConfigError: if the devices do not exist, or wandb is not installed; if `data` and `training` differ in
            `batch_tokens`, `batch_sentences` or `seed`, or `model` and the vocabularies in their sizes; if the model
            cannot do what is asked for: freezing a part, R-Drop, late dropout, scheduled sampling, or the `search`; if
            a vocabulary cannot do subword sampling, or sacrebleu not tokenize as asked for; if vectors are given
            beside `start`, or of another size than the embeddings.
        CorpusError: at a fault in the text, if no training pair is left, or the tokens cannot be kept; if vectors
            cannot be read, or are of other words.
        PackageError: if `start`, or one of the models to be averaged, cannot be read.
        TrainingError: if another process trains in `out`; if it holds something else, a model without a state to go on
            from, or a training with other settings; if none of its saved states can be used; if `start` is another
            model; if Weights & Biases cannot be used, steps fail, or memory or disk are too small.
        KeyboardInterrupt: after Ctrl-C; SystemExit: after SIGTERM, or when its terminal was closed. The state is saved,
            and the same call goes on.
    """
    engine = choose_engine(device, devices, nodes)
    check_wandb(wandb)
    config = training if epochs is None else training.model_copy(update={"max_epochs": epochs})
    data.subword_sampling = config.subword_sampling
    data.forget_tokens()
    check_batch_tokens(config, data)
    vectors = source_vectors, target_vectors
    if start is not None and any(vectors):
        raise ConfigError(f"start brings its embeddings, got {start} and vectors too; leave one of them out")
    run: dict[str, Any] = {"processes": devices * nodes, "start": start and str(start), "smoke": smoke}
    if any(vectors):  # Older states know nothing of them.
        run["vectors"] = [path and str(path) for path in vectors]
    settings = comparable(model, config, data, search, run)
    checkpoints = Checkpoints(out / "checkpoints")
    check_folder(out, checkpoints, restart, smoke)
    with alone_in(checkpoints.folder) if is_first_process() else nullcontext():
        found = None if restart else look_for_state(out, checkpoints, settings)
        if found and found.finished:
            say(f"the training in {out} is finished; --restart or another --out trains anew")
            return out
        quieten()
        seed_everything(config.seed, verbose=False)
        references = [data.target_vocabulary.normalise(target) for _, target in data.validation_pairs]
        module = TranslationModule(model, config, data.source_vocabulary, data.target_vocabulary, references, search)
        if found and found.batch_tokens:
            settle(module, data, found.batch_tokens)
        if start is not None and found is None:
            start_from(module.model, start, data.source_vocabulary, data.target_vocabulary)
        if found is None:
            start_with_vectors(module.model, vectors, (data.source_vocabulary, data.target_vocabulary))
        older = left_by_another(out, checkpoints, start) if found is None else []
        best, log = KeepBest(out, languages), MetricsFile(out / "log" / "metrics.csv")
        state = KeepState(checkpoints, config, settings, log)
        if wandb is not None:
            # The name of its run is a new one by the time that the others are removed.
            older = [path for path in older if path.name != WANDB_ID]
        if found is not None and checkpoints.finished:
            older = [checkpoints.finished_note]  # There are more epochs to train now.
        begin = Begin(older, log, found.log_rows if found else 0)
        callbacks = [begin, *build_callbacks(config, out, best, None if smoke else state), *callbacks]
        loggers = build_loggers(out, log, found, wandb, settings)
        trainer = build_trainer(engine, config, callbacks, loggers, smoke)
        trainer.strategy.checkpoint_io = checkpoints
        parts = ", ".join(f"{name} {count:,}" for name, count in module.model.parts())
        say(f"{sum(weight.numel() for weight in module.parameters()):,} parameters ({parts})")
        with explained(out, trainer, module, state):
            trainer.fit(module, datamodule=data, ckpt_path=found.path if found else None, weights_only=True)
            in_first_process(trainer, log.check)
            for callback in callbacks:
                if isinstance(callback, KeepModels):
                    validate_average(trainer, module, data, callback)
            if not smoke:
                in_first_process(trainer, partial(best.finish, trainer, log.path))
                in_first_process(trainer, checkpoints.finish)
        data.remove_samples()
        close(loggers)
        best.say()
        return out

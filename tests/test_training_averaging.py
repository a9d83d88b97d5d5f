"""Means of weights against sums made by hand, saved and resumed."""

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from tiny import PAIRS, data_module, fit, model_config, module_of, training_config, vocabulary
from torch import Tensor
from torch.nn import functional as F

from seq2seq import package
from seq2seq.config import EOS_ID
from seq2seq.errors import PackageError
from seq2seq.training import TranslationModule, train
from seq2seq.training.averaging import KeepModels, MovingAverage
from seq2seq.training.callbacks import KeepBest


class Recorder(Callback):
    """The weights after every batch, and those that are validated."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def copy(self, module) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in module.model.named_parameters()}

    def on_train_batch_end(self, trainer, pl_module, *rest) -> None:  # noqa: ARG002  # Lightning's
        self.trained.append(self.copy(pl_module))

    def on_validation_end(self, trainer, pl_module) -> None:  # noqa: ARG002  # Lightning's
        self.validated.append(self.copy(pl_module))


def same(first: dict[str, Tensor], second: dict[str, Tensor], **tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], **(tolerance or {"rtol": 0, "atol": 0}))


def test_a_moving_average_is_what_is_validated_and_nothing_that_is_trained(tmp_path: Path) -> None:
    config = training_config(max_epochs=3)
    plain, recorder, moving = Recorder(), Recorder(), MovingAverage(0.9)
    start = dict(module_of(config).model.named_parameters())
    fit(tmp_path, config, callbacks=[plain])
    module = fit(tmp_path, config, callbacks=[recorder, moving])
    expected = {name: weight.detach().clone() for name, weight in start.items()}
    for step, weights in enumerate(recorder.trained, start=1):
        same(weights, plain.trained[step - 1])  # Averaging leaves the training alone.
        decay = min(0.9, (1 + step) / (10 + step))
        expected = {name: decay * old + (1 - decay) * weights[name] for name, old in expected.items()}
        if step % 2 == 0:
            same(recorder.validated[step // 2 - 1], expected, rtol=1e-5, atol=1e-6)
    same(recorder.trained[-1], dict(module.model.named_parameters()))


def test_the_model_that_is_kept_is_the_moving_average_that_was_scored(tmp_path: Path) -> None:
    config, recorder = training_config(max_epochs=3, ema_decay=0.9), Recorder()
    data = data_module(tmp_path / "cache", config)
    out = train(model_config(), config, data, tmp_path / "out", device="cpu", callbacks=[recorder])
    summary = json.loads((out / "config.json").read_text())["training"]
    module = module_of(config)
    module.model.load_state_dict(package.load(out).model.state_dict())
    assert loss_of(module) == pytest.approx(summary["validation"]["loss"], rel=1e-4)
    raw = recorder.trained[2 * summary["epochs"] - 1]
    assert not any(torch.equal(weight, raw[name]) for name, weight in module.model.named_parameters())


def test_a_moving_average_goes_on_where_it_was(tmp_path: Path) -> None:
    config = training_config(max_epochs=1)
    first, second = MovingAverage(0.9), MovingAverage(0.9)
    module = fit(tmp_path, config, callbacks=[first])
    second.load_state_dict(first.state_dict())
    second.on_train_start(module.trainer, module)
    assert second.step == 2
    same(second.average, first.average)


def test_accumulated_batches_move_the_average_once(tmp_path: Path) -> None:
    config = training_config(max_epochs=2, accumulate=2)
    moving = MovingAverage(0.5)
    fit(tmp_path, config, callbacks=[moving])
    assert moving.step == 2


@pytest.mark.parametrize(("kind", "expected"), [("last", [10, 8]), ("best", [10, 6])])
def test_models_are_kept_by_age_or_by_score(
    tmp_path: Path, kind: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([1.0, 2.0, 7.0, 5.0, 7.0])
    keep_best = KeepBest(tmp_path / "out", ("", ""))
    monkeypatch.setattr(keep_best, "summarise", lambda *_: {"monitored": next(scores), "settings": {"monitor": "bleu"}})
    config = training_config(max_epochs=5, average_models=2, average_of=kind)
    models = KeepModels(tmp_path / "models", config, keep_best)
    fit(tmp_path / "cache", config, callbacks=[models])
    assert models.folders() == [tmp_path / "models" / f"step_{step}" for step in expected]
    assert {path.name for path in (tmp_path / "models").iterdir()} == {f"step_{step}" for step in expected}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models of one configuration."""
    folders = [tmp_path_factory.mktemp("models") / str(seed) for seed in range(3)]
    for seed, folder in enumerate(folders):
        model = module_of(training_config(seed=seed)).model
        package.save(folder, model, vocabulary(), vocabulary(), languages=("de", "en"))
    return folders


def test_an_average_is_the_mean_of_every_weight(three: list[Path]) -> None:
    average = package.average(three)
    weights = [dict(package.load(folder).model.named_parameters()) for folder in three]
    mean = {name: torch.stack([one[name].double() for one in weights]).mean(0).float() for name in weights[0]}
    same(dict(average.model.named_parameters()), mean)
    assert average.metadata.languages == ("de", "en")
    assert average.metadata.training == {"averaged": [str(folder) for folder in three]}
    same(dict(package.average([three[0]] * 2).model.named_parameters()), weights[0])


def test_models_that_do_not_belong_together_are_named(three: list[Path], tmp_path: Path) -> None:
    other = module_of(training_config(), model_config(residual=True)).model
    package.save(tmp_path / "other", other, vocabulary(), vocabulary())
    with pytest.raises(PackageError, match=r"other and .*0 with residual True and False; leave one out"):
        package.average([*three, tmp_path / "other"])
    with pytest.raises(PackageError, match="at least 2 models, got 1"):
        package.average(three[:1])
    with pytest.raises(PackageError, match="nowhere: is not a model folder"):
        package.average([three[0], tmp_path / "nowhere"])


def test_the_command_averages(three: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from seq2seq.cli.app import run

    folders = [str(folder) for folder in three]
    with pytest.raises(SystemExit) as ended:
        run(["average", *folders, "--out", str(tmp_path / "mean")])
    assert ended.value.code in (0, None)
    assert "the mean of 3 models" in capfd.readouterr().out
    same(
        dict(package.load(tmp_path / "mean").model.named_parameters()),
        dict(package.average(three).model.named_parameters()),
    )
    with pytest.raises(SystemExit) as ended:
        run(["average", *folders, "--out", folders[1]])
    assert ended.value.code == 2
    assert capfd.readouterr().err.startswith("error: --out must be another folder")
    with pytest.raises(SystemExit) as ended:
        run(["average", folders[0], f"{folders[0]}/.", "--out", str(tmp_path / "other")])
    assert ended.value.code == 2
    assert "is of different models, got" in capfd.readouterr().err
    assert json.loads((tmp_path / "mean" / "config.json").read_text())["training"] == {"averaged": folders}


def test_an_average_replaces_nothing(
    three: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from seq2seq.cli.app import run

    def average_into(out: Path) -> tuple[int | str | None, str]:
        with pytest.raises(SystemExit) as ended:
            run(["average", *map(str, three), "--out", str(out)])
        return ended.value.code, capfd.readouterr().err

    (tmp_path / "empty").mkdir()
    assert average_into(tmp_path / "empty")[0] in (0, None)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    monkeypatch.setattr(package, "average", lambda _: pytest.fail("they were averaged"))
    for name, there in [("mine", "with notes.txt in it"), ("empty", "with README.md in it"), ("file", "(Not a dir")]:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        code, told = average_into(tmp_path / name)
        assert code == 2
        assert told.startswith(f"error: --out must be a new or empty folder, got {tmp_path / name} {there}")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("rate", "better"), [(0.02, False), (0.2, True)])
def test_the_mean_is_written_where_it_validates_better(tmp_path: Path, rate: float, better: bool) -> None:
    config = training_config(max_epochs=6, average_models=3, average_of="last", learning_rate=rate)
    out = train(model_config(), config, data_module(tmp_path / "cache", config), tmp_path / "out", device="cpu")
    folders = sorted((out / "models").iterdir())
    mean = package.average(folders)
    module = module_of(config)
    module.model.load_state_dict(mean.model.state_dict())
    losses = [loss_of(module)]
    for folder in folders:
        module.model.load_state_dict(package.load(folder).model.state_dict())
        losses.append(loss_of(module))
    summary = package.load(out).metadata.training
    assert (losses[0] < min(losses[1:])) == better, "this rate was chosen for its outcome"
    assert ("averaged" in summary) == better
    assert summary["epochs"] <= 6
    if not better:
        return
    assert sorted(summary["averaged"]) == [folder.name for folder in folders]
    assert summary["validation"]["loss"] == pytest.approx(losses[0], rel=1e-4)
    same(dict(package.load(out).model.named_parameters()), dict(mean.model.named_parameters()), rtol=1e-5, atol=1e-6)


def loss_of(module: TranslationModule) -> float:
    """Per target token, over all pairs."""
    total, tokens = 0.0, 0
    for pair in PAIRS:
        source, target = ([*row, EOS_ID] for row in vocabulary().encode(pair))
        module.model.eval()
        with torch.no_grad():
            logits = module.model(torch.tensor([source]), torch.tensor([len(source)]), torch.tensor([target]))
        total += float(F.cross_entropy(logits[0], torch.tensor(target), reduction="sum"))
        tokens += len(target)
    return total / tokens

"""Translating: the same for a text whatever stands around it, and nothing but text in and out."""

import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from configurations import SMALL, configurations, name
from translators import SEARCH, TEXTS, VOCABULARY, agree, build, packaged

from seq2seq import metrics, package
from seq2seq.config import BOS_ID, EOS_ID, ModelConfig, SearchConfig
from seq2seq.errors import ConfigError, CorpusError, PackageError
from seq2seq.model import Seq2Seq
from seq2seq.search import EnsembleState
from seq2seq.translator import Request, Translator, is_reported, report
from seq2seq.translator import batches as batches_module
from seq2seq.translator import ensemble as ensemble_module
from seq2seq.translator.batches import Budget

PIECES = VOCABULARY.tokens(range(len(VOCABULARY)))


@pytest.fixture(scope="module")
def translator() -> Translator:
    return build()


# The parts of a model have tests of their own for every configuration; here some of each kind will do.
@pytest.mark.parametrize("config", configurations()[::4], ids=name)
def test_a_text_is_translated_as_if_it_were_alone(config: ModelConfig, monkeypatch) -> None:
    translator = build(config)
    # What sums its inputs up finds the same tokens in another order as good: rounding would choose among them.
    search = SEARCH.model_copy(update={"beam_size": 1, "n_best": 1}) if config.cell in ("linear", "memory") else SEARCH
    together = translator.generate(TEXTS, search)
    agree(together, [translator.generate([text], search)[0] for text in TEXTS])
    monkeypatch.setattr(batches_module, "BATCH_TOKENS", 20)
    agree(translator.generate(TEXTS[::-1], search), together[::-1])


@pytest.mark.parametrize("config", configurations()[::3], ids=name)
def test_how_weights_lie_changes_nothing(config: ModelConfig) -> None:
    packed = packaged(config)
    kept = {name: weight.clone() for name, weight in packed.model.state_dict().items()}
    encoded = packed.model.encode(torch.tensor([[5, 6, EOS_ID]]), torch.tensor([3]))
    with torch.no_grad():
        truth, _ = packed.model.step(torch.tensor([BOS_ID]), packed.model.start(encoded))
        translator = Translator(packed)
        (model,) = translator.ensemble.models
        log_probs, _ = translator.ensemble.step(torch.tensor([BOS_ID]), EnsembleState((model.start(encoded),)))
    assert torch.allclose(log_probs, truth, atol=1e-5)
    assert all(torch.equal(weight, kept[part]) for part, weight in model.state_dict().items())
    translator.ensemble.expect(len(VOCABULARY) - 1)
    assert model.decoder.token_gates is None, "a table is made when it pays"
    translator.ensemble.expect(1)
    assert model.decoder.token_gates is not None
    for part, weight in model.decoder.named_parameters():
        assert (weight if part == "embedding.weight" or weight.dim() == 1 else weight.t()).is_contiguous()


def test_a_table_is_forgotten_with_the_weights_that_it_was_made_of() -> None:
    (model,) = build().ensemble.models

    def learn() -> None:
        model.start(model.encode(torch.tensor([[5, EOS_ID]]), torch.tensor([2])))

    for changes in (learn, lambda: model.load_state_dict(model.state_dict())):
        model.eval()
        model.decoder.tabulate_tokens()
        assert model.decoder.token_gates is not None
        changes()
        assert model.decoder.token_gates is None


def test_attention_is_the_same_whatever_fits_into_memory(translator: Translator, monkeypatch) -> None:
    texts, search = [*TEXTS, "the quick brown fox", "a dog"], SearchConfig(beam_size=4, n_best=3, max_length=6)
    together = translator.generate(texts, search, attention=True)
    monkeypatch.setattr("seq2seq.translator.batches.MEMORY_SHARE", 0.0)
    for ours, alone in zip(together, translator.generate(texts, search, attention=True), strict=True):
        for one, other in zip(ours, alone, strict=True):
            assert one.tokens == other.tokens
            if one.attention is not None:
                assert torch.allclose(torch.tensor(one.attention), torch.tensor(other.attention), atol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_large_batch_is_its_texts_one_by_one(translator: Translator, beam_size: int) -> None:
    random = Random(2)
    texts = ["".join(random.choices("abcdefgh ", k=random.randint(0, 20))) for _ in range(40)]
    search = SearchConfig(beam_size=beam_size, max_length=8)
    agree(translator.generate(texts, search), [translator.generate([text], search)[0] for text in texts])


def test_a_model_that_has_learnt_since_translates_as_it_is_now() -> None:
    translator = build(SMALL.model_copy(update={"embedding_dropout": 0.5}))
    (model,) = translator.ensemble.models
    search = SearchConfig(beam_size=1, max_length=8)

    def other_weights() -> None:
        model.load_state_dict(packaged(translator.package.config, seed=77).model.state_dict())

    def one_step() -> None:
        model.train()
        source, lengths, target = torch.tensor([[5, EOS_ID]]), torch.tensor([2]), torch.tensor([[9, 8, EOS_ID]])
        model(source, lengths, target).logsumexp(-1).sum().backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()

    def in_place() -> None:
        with torch.no_grad():
            model.output.weight.neg_()

    before = translator.generate(TEXTS, search)
    for changes in (other_weights, one_step, in_place):
        changes()
        after = translator.generate(TEXTS, search)
        assert after != before
        fresh = packaged(translator.package.config)
        fresh.model.load_state_dict(model.state_dict())
        agree(after, Translator(fresh).generate(TEXTS, search))
        before = after


def test_no_table_is_larger_than_allowed(monkeypatch) -> None:
    monkeypatch.setattr(ensemble_module, "LARGEST_TABLE", 10)
    ensemble = build().ensemble
    ensemble.expect(10**6)
    assert ensemble.models[0].decoder.token_gates is None


def test_translate_gives_what_it_is_given(translator: Translator) -> None:
    found = translator.translate(TEXTS, SEARCH)
    assert len(found) == len(TEXTS)
    assert translator.translate("dog", SEARCH) == found[4]
    assert translator.translate(iter(TEXTS), SEARCH) == found
    assert translator.translate([]) == []
    assert translator.generate("dog", SEARCH) == translator.generate(["dog"], SEARCH), "not a text per character"
    for texts in [("dog", ["fox"]), (["dog"], "fox"), ("dog", "fox")]:
        with pytest.raises(ConfigError, match="score takes lists of texts, got a text"):
            translator.score(*texts)
    assert [found[1], found[3]] == ["", ""]
    assert all(found[number] for number in (0, 2, 4, 5))


def test_what_is_no_text_is_named(translator: Translator) -> None:
    for call, message in [
        (lambda: translator.translate(["dog", None]), r"texts\[1\] must be a string, got None"),
        (lambda: translator.translate(None), "texts must be strings or Requests, got None"),
        (lambda: translator.score(["dog", "a"], ["dog", 3]), r"targets\[1\] must be a string, got 3"),
        (lambda: Request(3), "a request's text must be a string, got 3"),
        (lambda: Request("dog", prefix=None), "a request's prefix must be a string, got None"),
        (lambda: Request("dog", constraints=("a", 3)), r"constraints\[1\] must be a string, got 3"),
        (lambda: Request("dog", constraints=3), "constraints must be a tuple of phrases, got 3"),
        (lambda: list(translator.translate_stream(["a"] * 5 + [b"b"], SEARCH, block=2)), r"texts\[5\] must be"),
    ]:
        with pytest.raises(ConfigError, match=message):
            call()


def test_blank_texts_do_not_reach_the_model(translator: Translator, monkeypatch) -> None:
    monkeypatch.setattr(translator.ensemble.models[0], "encode", lambda *_: pytest.fail("the model was asked"))
    blank = ["", " ", "\t", "\u3000", "\x0b", "\u2028"]
    assert translator.translate(blank) == [""] * len(blank)
    assert [len(found) for found in translator.generate(blank, SEARCH)] == [1] * len(blank)


def test_any_text_can_be_translated(translator: Translator) -> None:
    texts = ["<S>", "</s> <pad>", "▁", "日本語 русский", "\ud800", "\0", "a\nb\rc", "x" * 3000, "🙂" * 50]
    for translation in translator.translate(texts, SearchConfig(beam_size=2, max_length=20)):
        assert "\n" not in translation


def test_a_line_of_ten_thousand_tokens_ends(translator: Translator) -> None:
    ((found,),) = translator.generate(["fox " * 2500], SearchConfig(beam_size=2, max_length=30))
    assert len(found.tokens) <= 30


def test_a_lower_limit_is_kept_whatever_the_ratio(translator: Translator) -> None:
    for most, expected in ((40, 40), (30, 30)):
        search = SearchConfig(beam_size=2, min_length=min(40, most), max_length=most)
        (found,) = translator.generate(["a"], search)
        assert len(found[0].tokens) == expected


def test_length_limits_are_multiples_of_the_source_without_its_end(translator: Translator) -> None:
    search = SearchConfig(beam_size=1, max_length_ratio=0.5, min_length_ratio=0.5, max_length_margin=0)
    texts = ["dog", "a fox", "the lazy dog"]
    for ids, found in zip(VOCABULARY.encode(texts), translator.generate(texts, search), strict=True):
        assert len(found[0].tokens) == math.ceil(len(ids) / 2)


def test_score_is_the_product_of_the_steps(translator: Translator) -> None:
    for source, target in [("a fox", "dog"), ("", "lazy"), ("the quick brown fox", "")]:
        ids = [[*VOCABULARY.encode([text])[0], EOS_ID] for text in (source, target)]
        (model,), steps = translator.ensemble.models, []
        with torch.no_grad():
            state = model.start(model.encode(torch.tensor(ids[:1]), torch.tensor([len(ids[0])])))
            for previous, token in zip([BOS_ID, *ids[1]], ids[1], strict=False):
                log_probs, state = model.step(torch.tensor([previous]), state)
                steps.append(float(log_probs[0, token]))
        total = sum(steps)
        (found,) = translator.score([source], [target])
        assert found.score == pytest.approx(total, abs=1e-4)
        assert found.token_scores == pytest.approx(steps, abs=1e-4)
        assert found.tokens == [PIECES[i] for i in ids[1][:-1]]
        assert found.perplexity == pytest.approx(math.exp(-total / len(ids[1])), abs=1e-4)


def test_score_takes_blanks_and_keeps_order(translator: Translator) -> None:
    sources, targets = ["a fox", "", "dog", "a"], ["", "fox", "the quick fox", "dog"]
    together = [one.score for one in translator.score(sources, targets)]
    alone = [translator.score([source], [target])[0].score for source, target in zip(sources, targets, strict=True)]
    assert together == pytest.approx(alone)
    assert all(math.isfinite(log_prob) and log_prob < 0 for log_prob in together)
    assert [one.score for one in translator.score(iter(sources), iter(targets))] == together
    assert translator.score([], []) == []
    with pytest.raises(CorpusError, match="as many targets as sources, got 1 and 2"):
        translator.score(["a", "b"], ["a"])


@pytest.mark.parametrize("attention", ["general", "multi_head"])
def test_attention_is_a_distribution_over_the_source(attention: str) -> None:
    translator = build(SMALL.model_copy(update={"attention": attention}))
    texts = ["a fox", "", "the lazy dog"]
    found = translator.generate(texts, SEARCH, attention=True)
    agree(found, translator.generate(texts, SEARCH))
    for text, translations in zip(texts, found, strict=True):
        for one in translations:
            if not text:
                assert one.attention is None
                continue
            weights = torch.tensor(one.attention)
            assert one.source_tokens == VOCABULARY.tokens(VOCABULARY.encode([text])[0])
            assert weights.shape == (len(one.tokens) + 1, len(VOCABULARY.encode([text])[0]) + 1)
            assert torch.allclose(weights.sum(1), torch.ones(len(weights)), atol=1e-5)
            source = [*VOCABULARY.encode([text])[0], EOS_ID]
            target = [*map(PIECES.index, one.tokens), EOS_ID]
            with torch.no_grad():
                alone = translator.ensemble.models[0].attend(
                    torch.tensor([source]), torch.tensor([len(source)]), torch.tensor([target])
                )
            assert torch.allclose(weights, alone[0], atol=1e-5)


def test_samples_are_those_of_the_text_in_any_company(translator: Translator) -> None:
    search = SearchConfig(samples=3, max_length=6, seed=2)
    together = translator.generate(TEXTS, search)
    assert [len(found) for found in together] == [3 if text.strip() else 1 for text in TEXTS]
    agree(together[::-1], translator.generate(TEXTS[::-1], search))
    agree(together, [translator.generate([text], search)[0] for text in TEXTS])
    other = translator.generate(TEXTS, search.model_copy(update={"seed": 3}))
    assert [one.text for found in together for one in found] != [one.text for found in other for one in found]


def test_bfloat16_is_in_everything_but_the_probabilities(folder: Path) -> None:
    exact, rounded = Translator.load(folder), Translator.load(folder, precision="bfloat16")
    (model,) = rounded.ensemble.models
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    encoded = model.encode(torch.tensor([[5, 6, EOS_ID]]), torch.tensor([3]))
    state = model.start(encoded)
    log_probs, after = model.step(torch.tensor([BOS_ID]), state)
    parts = [encoded.annotations, *(part for layer in (*encoded.state, *after.recurrent) for part in layer)]
    assert {part.dtype for part in parts} == {torch.bfloat16}
    assert log_probs.dtype == torch.float32
    sources, targets = ["a fox", "the lazy dog"], ["dog", "a quick fox"]
    for one, other in zip(rounded.score(sources, targets), exact.score(sources, targets), strict=True):
        assert one.score == pytest.approx(other.score, rel=0.02)
        assert one.score != other.score
    assert len(rounded.translate(TEXTS, SEARCH)) == len(TEXTS)
    with pytest.raises(ConfigError, match="precision must be one of float32, bfloat16, got 'float8'"):
        Translator.load(folder, precision="float8")


def test_a_stream_is_translated_block_by_block(translator: Translator) -> None:
    read = []

    def lines():
        for text in TEXTS:
            read.append(text)
            yield text

    stream = translator.translate_stream(lines(), SEARCH, block=3)
    first = next(stream)
    assert len(read) == 3
    agree([first, *stream], translator.generate(TEXTS, SEARCH))
    assert list(translator.translate_stream("dog", SEARCH)) == translator.generate("dog", SEARCH)
    with pytest.raises(ConfigError, match="needs a model, got none"):
        Translator()
    with pytest.raises(ConfigError, match="block must be a whole number of at least 1, got 0"):
        translator.translate_stream(["a", "b"], block=0)
    with pytest.raises(ConfigError, match="shortlist"):
        translator.translate_stream([], SearchConfig(shortlist=5))


@pytest.mark.parametrize("width", [1, 5, 400])
def test_batches_keep_their_budgets(width: int) -> None:
    lengths = [Random(7).randint(1, 900) for _ in range(500)] + [9000]
    budget = Budget.of([SMALL], width, torch.device("cpu"))
    found = list(batches_module.batches(range(501), lengths, budget))
    assert sorted(number for batch in found for number in batch) == list(range(501))
    for batch in found:
        longest = max(lengths[number] for number in batch)
        assert len(batch) == 1 or longest * len(batch) <= batches_module.BATCH_TOKENS
        assert len(batch) == 1 or len(batch) * width <= batches_module.ROWS


def test_batches_shrink_with_memory_beam_and_vocabulary(monkeypatch) -> None:
    def sentences(memory: int, width: int = 2, vocabulary: int = 8000) -> int:
        monkeypatch.setattr(batches_module, "available_memory", lambda _: memory)
        config = SMALL.model_copy(update={"target_vocabulary_size": vocabulary})
        budget = Budget.of([config], width, torch.device("cpu"))
        return len(next(batches_module.batches(range(1000), [9] * 1000, budget)))

    assert sentences(4 << 30) == batches_module.ROWS // 2
    assert sentences(64 << 20) > sentences(32 << 20) > sentences(32 << 20, width=4) > 1
    assert sentences(32 << 20) > sentences(32 << 20, vocabulary=32000)
    assert sentences(0) == 1
    Budget.of([SMALL], 1000, torch.device("cpu"), 0).check_row()
    with pytest.raises(MemoryError, match=r"1,000,000,000 hypotheses take about [\d,.]+ GiB, and 2.0 are free"):
        Budget.of([SMALL], 10**9, torch.device("cpu"), 2 << 30).check_row()


def test_free_memory_is_found() -> None:
    assert 1 << 20 < batches_module.available_memory(torch.device("cpu")) < 1 << 50


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    for device in ("cuda:77", "toaster", "meta", "hpu", *([] if torch.cuda.is_available() else ["gpu"])):
        with pytest.raises(ConfigError, match=f"device must be one that this machine has, got '{device}'"):
            Translator.load(tmp_path, device)


def test_groups_that_spell_one_text_by_different_tokens_say_it_once(translator: Translator) -> None:
    config = SearchConfig(beam_size=60, beam_groups=20, n_best=60, max_length=2, length_penalty="none")
    found = translator.generate(["a fox", "dog"], config)
    for own in found:
        assert len({one.text for one in own}) == len(own) > 1
        assert [one.score for one in own] == sorted((one.score for one in own), reverse=True)


def test_what_is_no_search_and_no_option_is_refused(translator: Translator) -> None:
    with pytest.raises(ConfigError, match=r"knows the options .*, got alpha, beam_size; how to search"):
        translator.translate("dog", beam_size=1, alpha=1)
    for search in (5, {"beam_size": 1}):
        with pytest.raises(ConfigError, match=r"search must be a SearchConfig, got .*; write SearchConfig"):
            translator.translate("dog", search)


@pytest.fixture(scope="module")
def folder(translator: Translator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    package.save(folder, translator.package.model, VOCABULARY, VOCABULARY, languages=("fox", "dog"))
    return folder


def test_a_report_writes_scores_and_shows_samples(folder: Path, translator: Translator, capsys) -> None:
    sources, references = ["a fox", "dog", "lazy"], [["x", "y", "z"], ["dog", "a", "b"]]
    for _ in range(2):
        report(folder, sources, references, search=SEARCH, metrics=("bleu", "exact_match"), samples=2, commands=["go"])
    written = json.loads((folder / "metrics.json").read_text())
    assert set(written["scores"]) == {"bleu", "exact_match"}
    assert written["scores"]["bleu"]["text"].startswith("BLEU|nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert SearchConfig(**written["search"]) == SEARCH
    files = "a fox\ndog\nlazy\nx\ny\nz\ndog\na\nb\n"
    assert written["test_set"] == "sha256:" + hashlib.sha256(files.encode()).hexdigest()
    card = (folder / "README.md").read_text()
    test_set = {path.name: path.read_text() for path in (folder / "test").iterdir()}
    texts = {"source": sources, "reference": references[0], "reference2": references[1]}
    texts["translation"] = translator.translate(sources, SEARCH)
    assert test_set == {f"{name}.txt": "".join(f"{line}\n" for line in lines) for name, lines in texts.items()}
    assert "fox → dog" in card
    told = "beam_size=3, length_penalty=average, alpha=0.6, n_best=2, max_length=6"
    assert f"3 sentences ({written['test_set']}), {told}:" in card
    assert card.count(written["scores"]["bleu"]["text"]) == 1
    printed = capsys.readouterr().out
    assert re.search(rf"^3 test sentences in [\d.]+ s \({told}\)$", printed, re.MULTILINE)
    assert written["scores"]["exact_match"]["text"] in printed
    assert translator.translate("a fox", SEARCH) in printed
    assert printed.rstrip().endswith("go")
    package.load(folder)


@pytest.mark.parametrize(("samples", "shown"), [(5, [0, 2, 4, 6, 8]), (20, range(11)), (0, [])])
def test_a_report_shows_as_many_samples_as_asked(samples, shown, folder: Path, capsys) -> None:
    sources = [f"fox {number}" for number in range(11)]
    report(folder, sources, [["dog"] * 11], search=SearchConfig(beam_size=1, max_length=2), samples=samples)
    assert re.findall(r"^  source +fox (\d+)$", capsys.readouterr().out, re.MULTILINE) == [str(each) for each in shown]


def test_a_report_scores_what_it_writes(folder: Path, translator: Translator) -> None:
    """A text of two lines is one in the files."""
    hypothesis = translator.translate("dog", SEARCH)
    report(folder, ["d\nog", "dog"], [["a\nb", hypothesis]], search=SEARCH, metrics=("exact_match",))
    lines = [(folder / "test" / f"{name}.txt").read_text() for name in ("source", "reference")]
    assert lines == ["d og\ndog\n", f"a b\n{hypothesis}\n"]
    written = json.loads((folder / "metrics.json").read_text())
    assert written["test_set"] == "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_report_tells_the_scores_of_its_files(translator: Translator, tmp_path: Path) -> None:
    package.save(tmp_path, translator.package.model, VOCABULARY, VOCABULARY)
    sources = ["a fox", "dog", "the quick brown fox", "lazy"]
    found = translator.translate(sources, SEARCH)
    references = [[found[0], "a dog", f"{found[2]} x", "the lazy dog"], ["x", found[1], "y", "z"]]
    report(tmp_path, sources, references, search=SEARCH, metrics=("chrf", "exact_match"))
    names = ("translation", "reference", "reference2")
    lines = [(tmp_path / "test" / f"{file}.txt").read_text().splitlines() for file in names]
    for metric, told in json.loads((tmp_path / "metrics.json").read_text())["scores"].items():
        assert told["value"] == pytest.approx(metrics.score(metric, lines[0], lines[1:]).value)
        assert 0 < told["value"] < 100


def test_a_report_leaves_no_older_test_set_and_a_trial_a_full_one(translator: Translator, tmp_path: Path) -> None:
    package.save(tmp_path, translator.package.model, VOCABULARY, VOCABULARY)
    report(tmp_path, ["a fox"], [["dog"], ["fox"]], search=SEARCH, smoke=True)
    assert (tmp_path / "test" / "reference2.txt").exists()
    report(tmp_path, ["lazy"] * 30, [["dog"] * 30], search=SEARCH)
    report(tmp_path, ["dog"], [["fox"]], search=SEARCH, smoke=True)
    assert {path.stem for path in (tmp_path / "test").iterdir()} == {"source", "reference", "translation"}
    assert (tmp_path / "test" / "source.txt").read_text() == "lazy\n" * 30


@pytest.mark.parametrize(
    ("search", "told"),
    [
        (SearchConfig(beam_size=1), "beam_size=1"),
        (SearchConfig(length_penalty="none"), "beam_size=5, length_penalty=none, alpha=0.6"),
        (SearchConfig(samples=2, seed=3), "samples=2, seed=3"),
    ],
)
def test_a_report_tells_how_it_searched(search: SearchConfig, told: str, folder: Path, capsys) -> None:
    report(folder, ["a fox"], [["dog"]], search=search, smoke=True)
    assert f" s ({told})\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("references", "metric", "message"),
    [
        ([["dog"]], "blue", "metric must be one of"),
        ([["dog"]], "bleu", "reference 1 must have as many lines as the hypotheses, got 1 and 2"),
        ([], "bleu", "a score needs lines and references, got 2 and 0"),
    ],
)
def test_a_report_is_refused_before_anything_is_translated(
    references: list[list[str]], metric: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Translator, "translate", lambda *_: pytest.fail("it translates"))
    with pytest.raises((ConfigError, CorpusError), match=message):
        report(folder, ["a fox", "dog"], references, search=SEARCH, metrics=(metric,))


def test_a_report_removes_nothing_that_no_report_has_made(translator: Translator, tmp_path: Path) -> None:
    package.save(tmp_path, translator.package.model, VOCABULARY, VOCABULARY)
    report(tmp_path, ["a fox"], [["dog"], ["fox"], ["a"]], search=SEARCH)
    mine = [tmp_path / "test" / f"reference{name}.txt" for name in ("_notes", "s", "02", "2024")]
    for path in mine:
        path.write_text("mine")
    report(tmp_path, ["a fox"], [["dog"]], search=SEARCH)
    ours = {"source.txt", "reference.txt", "translation.txt"}
    assert {path.name for path in (tmp_path / "test").iterdir()} == ours | {path.name for path in mine}


def test_a_report_keeps_the_bytes_of_the_card(translator: Translator, tmp_path: Path) -> None:
    package.save(tmp_path, translator.package.model, VOCABULARY, VOCABULARY)
    card = tmp_path / "README.md"
    card.write_bytes(b"gr\xfcn\r\nund gelb\n")
    for _ in range(2):
        report(tmp_path, ["a fox"], [["dog"]], search=SEARCH)
        assert card.read_bytes().startswith(b"gr\xfcn\r\nund gelb\n\n## Test set\n\n1 sentences (sha256:")
        assert card.read_bytes().count(b"## Test set") == 1
    own = b"### Test set\nmine\n## Test sets used\nmine too\n"
    card.write_bytes(own + card.read_bytes() + b"\n## License\nfree\n")
    for _ in range(2):
        report(tmp_path, ["dog"], [["dog"]], search=SEARCH)
        content = card.read_bytes()
        assert content.startswith(own + b"gr\xfcn\r\nund gelb\n\n## Test set\n\n1 sentences (sha256:")
        assert content.endswith(b"\n\n## License\nfree\n")
        assert content.count(b"(sha256:") == 1
    card.unlink()
    card.mkdir()
    with pytest.raises(PackageError, match=r"README.md: cannot be written \(Is a directory\); make room for it"):
        report(tmp_path, ["a fox"], [["dog"]], search=SEARCH)
    assert not (tmp_path / "README.md.part").exists()


def test_a_report_that_cannot_be_written_is_one_line_after_the_scores(
    translator: Translator, tmp_path: Path, capsys
) -> None:
    package.save(tmp_path, translator.package.model, VOCABULARY, VOCABULARY)
    (tmp_path / "test").write_text("in the way")
    with pytest.raises(PackageError, match=r"source.txt: cannot be written \(File exists\); make room for it"):
        report(tmp_path, ["a fox"], [["dog"]], search=SEARCH)
    assert (tmp_path / "test").read_text() == "in the way"
    assert "BLEU|" in capsys.readouterr().out


def test_a_report_belongs_to_the_weights_and_the_search_it_was_made_of(translator: Translator, tmp_path: Path) -> None:
    model = translator.package.model
    package.save(tmp_path, model, VOCABULARY, VOCABULARY)
    search = SEARCH.model_copy(update={"forbidden_tokens": (5,)})
    assert not is_reported(tmp_path, search)
    report(tmp_path, ["a fox"] * 30, [["dog"] * 30], search=search, metrics=("exact_match",), smoke=True)
    assert not is_reported(tmp_path, search)
    assert json.loads((tmp_path / "metrics.json").read_text())["sentences"] == 20
    report(tmp_path, ["a fox"] * 30, [["dog"] * 30], search=search, metrics=("exact_match",))
    assert is_reported(tmp_path, search)
    assert not is_reported(tmp_path, SEARCH)
    torch.manual_seed(1)
    package.save(tmp_path, Seq2Seq(model.config), VOCABULARY, VOCABULARY)
    assert not is_reported(tmp_path, search)
    for broken in ("{", "[]", "{}"):
        (tmp_path / "metrics.json").write_text(broken)
        assert not is_reported(tmp_path, search)


def test_translating_imports_nothing_of_training(folder: Path) -> None:
    program = """
import sys
from seq2seq.translator import Translator
Translator.load(sys.argv[1]).translate("a fox")
heavy = {"lightning", "pytorch_lightning", "datasets", "pyarrow", "pandas", "matplotlib", "sacrebleu", "typer", "rich"}
print(*heavy & sys.modules.keys())
"""
    run = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert run.stdout == "\n"

"""Embeddings that begin with vectors from files."""

from pathlib import Path

import pytest
import torch
from reversing import rows
from tiny import data_module, model_config, training_config, vocabulary

from seq2seq import package
from seq2seq.config import FIRST_FREE_ID, ModelConfig
from seq2seq.errors import ConfigError, CorpusError, TrainingError
from seq2seq.model import Seq2Seq
from seq2seq.training import train, vector_size
from seq2seq.training.vectors import start_with_vectors, vectors_of_tokens
from seq2seq.vocabulary import Vocabulary

LINES = ["the dog runs", "The dogs run", "a dog , a cat"] * 9
WORDS = Vocabulary.train(LINES, 13, kind="word")
PIECES = Vocabulary.train(LINES, 20, kind="unigram")


def write(path: Path, vectors: dict[str, list[float]], heading: bool = False, end: str = "\n") -> Path:
    lines = [f"{len(vectors)} {len(next(iter(vectors.values())))}"] if heading else []
    lines += [f"{word} {' '.join(map(str, numbers))}" for word, numbers in vectors.items()]
    path.write_text("".join(f"{line}{end}" for line in lines))
    return path


def numbers(seed: int, size: int = 4) -> list[float]:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture(params=[(False, "\n"), (True, " \n"), (False, "\r\n")], ids=["GloVe", "fastText", "CRLF"])
def words_file(request, tmp_path: Path) -> Path:
    heading, end = request.param
    names = ["dog", "The", "the", "cat", "horse", ","]
    return write(tmp_path / "words.vec", {name: numbers(i) for i, name in enumerate(names)}, heading, end)


def test_words_find_their_vectors(words_file: Path) -> None:
    assert vector_size([words_file]) == 4
    found = vectors_of_tokens(words_file, WORDS)
    told = {WORDS.tokens([token])[0]: vector for token, vector in found.items()}
    assert told == {"▁dog": numbers(0), "▁The": numbers(1), "▁the": numbers(2), "▁cat": numbers(3), "▁,": numbers(5)}


def test_a_word_that_is_only_there_in_lower_case_is_found_by_it(tmp_path: Path) -> None:
    path = write(tmp_path / "lower.vec", {"the": numbers(1), "dog": numbers(2), "x": numbers(3)})
    found = vectors_of_tokens(path, WORDS)
    assert found[WORDS.find("▁The")] == found[WORDS.find("▁the")] == numbers(1)


def test_a_word_is_no_piece_inside_of_another_but_the_vectors_of_pieces_are(tmp_path: Path) -> None:
    tokens = PIECES.tokens(range(FIRST_FREE_ID, len(PIECES)))
    inside = next(token for token in tokens if "▁" not in token)
    begins = next(token for token in tokens if token.startswith("▁") and token[1:] not in ("", inside))
    words = {inside: numbers(1), begins.removeprefix("▁"): numbers(2)}
    assert vectors_of_tokens(write(tmp_path / "words.vec", words), PIECES) == {PIECES.find(begins): numbers(2)}
    pieces = write(tmp_path / "pieces.vec", {inside: numbers(1), begins: numbers(3)})
    found = vectors_of_tokens(pieces, PIECES)
    assert found[PIECES.find(inside)] == numbers(1)
    assert found[PIECES.find(begins)] == numbers(3)


def test_a_stray_word_of_the_other_kind_changes_nothing(tmp_path: Path) -> None:
    words = {"the": numbers(1), "dog": numbers(2), "cat": numbers(3), "▁": numbers(4), "▁dog": numbers(5)}
    assert vectors_of_tokens(write(tmp_path / "words.vec", words), WORDS)[WORDS.find("▁dog")] == numbers(2)
    pieces = {f"▁{word}": vector for word, vector in words.items()} | {"the": numbers(6)}
    assert vectors_of_tokens(write(tmp_path / "pieces.vec", pieces), WORDS)[WORDS.find("▁the")] == numbers(1)


def test_words_with_spaces_are_passed_over_and_the_first_of_two_counts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "odd.vec", {"horse": numbers(1), "dog . .": numbers(2), "dog": numbers(3), "cat": numbers(4)}
    )
    with path.open("a") as file:
        file.write("dog 9 9 9 9\nhorse nothing\n")
    assert vectors_of_tokens(path, WORDS)[WORDS.find("▁dog")] == numbers(3)


def model(tied: str = "none", size: int = 4) -> Seq2Seq:
    torch.manual_seed(1)
    sizes = {"source_vocabulary_size": len(WORDS), "target_vocabulary_size": len(WORDS), "decoder_hidden_size": 16}
    return Seq2Seq(ModelConfig(embedding_size=size, encoder_hidden_size=8, tied_embeddings=tied, **sizes))


def test_vectors_are_scaled_together_and_the_others_stay_random(words_file: Path) -> None:
    before, after = model(), model()
    start_with_vectors(after, (words_file, None), (WORDS, WORDS))
    torch.testing.assert_close(before.decoder.embedding.weight, after.decoder.embedding.weight)
    table, random = after.encoder.embedding.weight.detach(), before.encoder.embedding.weight.detach()
    chosen = vectors_of_tokens(words_file, WORDS)
    others = [token for token in range(len(WORDS)) if token not in chosen]
    assert torch.equal(table[others], random[others])
    vectors = torch.tensor(list(chosen.values()))
    ratios = table[list(chosen)] / vectors
    torch.testing.assert_close(ratios, ratios[0, 0].expand_as(ratios), rtol=1e-4, atol=0)
    assert table[list(chosen)].square().mean() == pytest.approx(float(random[FIRST_FREE_ID:].square().mean()), rel=1e-4)


def test_shared_embeddings_take_the_targets_vectors_where_the_source_has_none(tmp_path: Path) -> None:
    source = write(tmp_path / "source.vec", {"dog": [1.0, 0.0, 0.0, 0.0], "runs": [1.0, 1.0, 0.0, 0.0]})
    target = write(tmp_path / "target.vec", {"dog": [0.0, 1.0, 0.0, 0.0], "cat": [0.0, 0.0, 1.0, 0.0]})
    for tied, directions in (("all", (0, 2)), ("decoder", (1, 2))):
        built = model(tied)
        start_with_vectors(built, (source, target), (WORDS, WORDS))
        for word, direction in zip(("▁dog", "▁cat"), directions, strict=True):
            vector = built.output.weight[WORDS.find(word)]
            assert vector.argmax() == direction
            assert torch.count_nonzero(vector) == 1


def test_one_file_for_both_sides_of_shared_embeddings(words_file: Path, capfd) -> None:
    one, both = model("all"), model("all")
    start_with_vectors(one, (words_file, None), (WORDS, WORDS))
    start_with_vectors(both, (words_file, words_file), (WORDS, WORDS))
    assert torch.equal(one.output.weight, both.output.weight)
    assert f"target embeddings: 0 of {len(WORDS)} tokens" in capfd.readouterr().err


@pytest.mark.parametrize("heading", ["6 4", "6  4", "6\t4", " 6 4"])
def test_a_heading_may_be_spaced_as_it_likes(heading: str, tmp_path: Path) -> None:
    (tmp_path / "a.vec").write_text(f"{heading}\ndog 1 2 3 4\n")
    assert vector_size([tmp_path / "a.vec"]) == 4
    assert vectors_of_tokens(tmp_path / "a.vec", WORDS) == {WORDS.find("▁dog"): [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("dog\n", r"bad.vec:1: must be a word and its numbers"),
        ("6 0\ndog\n", r"bad.vec:1: must be a word and its numbers"),
        ("dog 1 2 3 x\n", r"bad.vec:1: must be a word and its numbers"),
        ("the 1 2 3 4\ndog 1 2 3\n", r"bad.vec:2: must have 4 numbers behind the word"),
        ("the 1 2 3 4\ndog 1 2 3 nan\n", r"bad.vec:2: must have 4 numbers behind the word"),
        ("chien 1 2 3 4\n", "has none of the source vocabulary's words"),
        ("dog 0 0 0 0\n", "has none of the source vocabulary's words"),
    ],
)
def test_files_that_are_no_vectors_are_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.vec").write_text(content)
    with pytest.raises(CorpusError, match=message):
        start_with_vectors(model(), (tmp_path / "bad.vec", None), (WORDS, WORDS))


def test_other_sizes_are_refused(words_file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"must have embedding_size=6 numbers, got 4; .* ModelConfig\(embedding_size=4"
    ):
        start_with_vectors(model(size=6), (None, words_file), (WORDS, WORDS))
    other = write(tmp_path / "other.vec", {"dog": numbers(1, size=5)})
    with pytest.raises(ConfigError, match=r"must be of one size, got 4 in .*words.vec and 5 in .*other.vec"):
        vector_size([words_file, other])


def test_a_training_begins_with_them_and_goes_on_only_with_the_same(tmp_path: Path, capfd) -> None:
    tokens = vocabulary().tokens(range(FIRST_FREE_ID, len(vocabulary())))
    path = write(tmp_path / "letters.vec", {token: numbers(i, size=8) for i, token in enumerate(tokens)})
    training = training_config(freeze=("embeddings",))
    run = (model_config(tied_embeddings="none"), training, data_module(tmp_path / "cache", training), tmp_path / "out")
    train(*run, device="cpu", source_vectors=path)
    assert f"source embeddings: {len(tokens)} of {len(vocabulary())} tokens begin with" in capfd.readouterr().err
    table = package.load(tmp_path / "out").model.encoder.embedding.weight[FIRST_FREE_ID:]
    ratios = table / torch.tensor([numbers(i, size=8) for i in range(len(tokens))])
    torch.testing.assert_close(ratios, ratios[0, 0].expand_as(ratios), rtol=1e-4, atol=0)
    logged = rows(tmp_path / "out")
    train(*run, device="cpu", source_vectors=path)
    assert rows(tmp_path / "out") == logged
    with pytest.raises(TrainingError, match=r"other settings \(run.vectors"):
        train(*run, device="cpu", target_vectors=path)
    with pytest.raises(ConfigError, match="start brings its embeddings"):
        train(*run, device="cpu", start=tmp_path / "out", source_vectors=path)

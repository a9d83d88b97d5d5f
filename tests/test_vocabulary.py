"""Laws of the vocabulary: text comes back as it went in, no text becomes a special token, decoding never raises."""

import pickle
import time
import unicodedata
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq.errors import ConfigError, CorpusError, VocabularyError
from seq2seq.vocabulary import Vocabulary

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

KINDS = ("unigram", "bpe", "char", "word")
HARD_TEXTS = [
    "<S>",
    "a<S>b </s> <E> <pad> <unk><S><S>",
    "▁ ▁▁a ▅ b▁",
    "<0x41> <0xFF>",
    "e\u0301 ﬁ ½ … “quoted” 日本語 Ωμέγα",
    "👩\u200d👩\u200d👧 🏳️\u200d🌈 flags",
    "non\u00a0breaking\u202fspaces\u3000stay",
]
SYMBOLS = ["<2de>", "<2de><2de>", "small", "e", "▁▁", '","', "\u0301"]
LINES = [f"the {n} small dogs run over {n * n} green hills" for n in range(60)] + HARD_TEXTS


def train(lines=LINES, size=400, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Vocabulary.train(lines, size, **options)


@pytest.fixture(scope="module", params=[*KINDS, "symbols"])
def vocabulary(request):
    if request.param == "symbols":
        return train(symbols=SYMBOLS)
    return train(kind=request.param)


@pytest.fixture(scope="module")
def bytewise():
    return train(["a b c"], 300, byte_fallback=True)


def canonical(text):
    """The documented form, written another way than the library's."""
    text = unicodedata.normalize("NFC", text)
    text = "".join("\ufffd" if c in "\0\ufdd1\ufdd2\ufdd3" or 0xD800 <= ord(c) < 0xE000 else c for c in text)
    text = "".join(" " if c in "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029" else c for c in text)
    while "  " in text:
        text = text.replace("  ", " ")
    return text.strip(" ")


@pytest.mark.parametrize("text", LINES[:5] + HARD_TEXTS)
def test_text_comes_back_as_it_went_in(vocabulary, text):
    assert vocabulary.decode(vocabulary.encode([text])) == [canonical(text)]


@given(st.text())
@few
def test_any_text_comes_back_through_bytes(bytewise, text):
    (ids,) = bytewise.encode([text])
    assert set(ids).isdisjoint({PAD_ID, UNK_ID, BOS_ID, EOS_ID})
    assert bytewise.decode([ids]) == [canonical(text)]
    assert bytewise.encode(bytewise.decode([ids])) == [ids], "the canonical form is a fixed point"


@given(st.text(alphabet="<>SEpadunk/s▁▅ \t\u0301e0x41\ufdd1\ufdd3\ud800\0"))
@few
def test_no_text_becomes_a_special_token(vocabulary, text):
    (ids,) = vocabulary.encode([text])
    assert set(ids).isdisjoint({PAD_ID, BOS_ID, EOS_ID})
    assert (ids == []) == (canonical(text) == "")


def any_vocabulary(kind):
    return train(kind=kind, byte_fallback=kind in ("unigram", "bpe"), size=700)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_any_ids_gives_one_line(kind):
    vocabulary = any_vocabulary(kind)
    ids = st.integers() | st.integers(-1, len(vocabulary))

    @given(st.lists(st.lists(ids)))
    @few
    def check(rows):
        texts = vocabulary.decode(rows)
        assert len(texts) == len(rows)
        for text in texts:
            assert len((text + "x").splitlines()) == 1
            assert text == canonical(text)

    check()


def test_one_text_written_in_two_ways_is_one_text(vocabulary, bytewise):
    for same in (vocabulary, bytewise):
        composed, decomposed, spaced = same.encode(["é ½", "e\u0301 ½", " e\u0301\t ½\u2028"])
        assert composed == decomposed == spaced
        assert same.decode([decomposed]) == ["é ½"]


def test_what_bytes_spell_is_put_into_the_canonical_form(bytewise):
    byte_of = {int(piece[1:-1], 16): i for i, piece in enumerate(bytewise.tokens(range(4, 260)), 4)}
    for spelt, text in {"e\u0301\n\ta": "é a", "\u037e": ";", "▁<\0": "▁<"}.items():
        assert bytewise.decode([[byte_of[byte] for byte in spelt.encode()]]) == [text]
    assert bytewise.decode([[byte_of[0xFF], byte_of[0xC3]]]) == ["\ufffd\ufffd"]


def test_special_tokens_and_ids_out_of_range_are_not_decoded(vocabulary):
    (ids,) = vocabulary.encode(["the small dogs"])
    noisy = [BOS_ID, PAD_ID, *ids, -1, 10**30, len(vocabulary), EOS_ID, PAD_ID]
    assert vocabulary.decode([noisy, ids]) == ["the small dogs"] * 2
    assert vocabulary.decode([]) == []
    assert vocabulary.decode([[]]) == [""]


def test_encoding_is_the_same_alone_batched_and_threaded(vocabulary):
    alone = [vocabulary.encode([line])[0] for line in LINES]
    assert vocabulary.encode(LINES) == alone
    assert vocabulary.encode(LINES * 10, threads=4) == alone * 10
    assert vocabulary.encode([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic_and_quiet(kind, capfd):
    first, second = train(kind=kind), train(iter(LINES), kind=kind)
    assert first.to_bytes() == second.to_bytes()
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != train(LINES[1:], kind=kind).fingerprint
    assert capfd.readouterr() == ("", "")


def test_the_four_special_tokens_have_their_ids(vocabulary):
    assert vocabulary.tokens(range(4)) == ["<pad>", "<unk>", "<S>", "<E>"]
    assert vocabulary.tokens([-1, len(vocabulary)]) == ["<unk>", "<unk>"]


def test_pieces_join_to_the_text(vocabulary):
    (ids,) = vocabulary.encode(["the small dogs"])
    assert "".join(vocabulary.tokens(ids)) == "▁the▁small▁dogs"


def test_size_is_reached_where_the_text_allows():
    assert len(train(size=120, kind="unigram")) == 120
    assert len(train(size=200, kind="bpe")) == 200


@pytest.mark.parametrize("kind", ["unigram", "bpe", "word"])
def test_text_too_small_for_the_size(kind):
    with pytest.warns(UserWarning, match="this text gives at most (\\d+)") as caught:
        vocabulary = Vocabulary.train(["a b", "b c"], 1000, kind=kind)
    assert str(len(vocabulary)) in str(caught[0].message)
    with pytest.raises(VocabularyError, match=f"use size={len(vocabulary)} "):
        Vocabulary.train(["a b", "b c"], 1000, kind=kind, hard=True)
    again = Vocabulary.train(["a b", "b c"], len(vocabulary), kind=kind, hard=True)
    assert len(again) == len(vocabulary), "the size that the message names works"


def test_an_alphabet_has_the_size_it_has():
    assert len(Vocabulary.train(["abc"], 100, kind="char")) == 4 + len("▁abc")
    with pytest.raises(VocabularyError, match="use size=8"):
        Vocabulary.train(["abc"], 100, kind="char", hard=True)


def test_size_below_the_characters_names_the_least():
    with pytest.raises(VocabularyError, match="at least 12, got 6"):
        Vocabulary.train(["abcdefg"], 6)
    assert len(train(["abcdefg"], 12)) == 12


@pytest.mark.parametrize("lines", [[], ["", "  ", "\t"], ["\u2028"]])
def test_no_text(lines):
    with pytest.raises(VocabularyError, match="needs text"):
        Vocabulary.train(lines, 100)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 4},
        {"size": 260, "byte_fallback": True},
        {"kind": "bytes"},
        {"kind": "word", "byte_fallback": True, "size": 300},
        {"character_coverage": 0.0},
        {"character_coverage": 1.1},
        {"size": 6, "symbols": ["<2de>", "<2fr>"]},
        {"symbols": "<2de>"},
        {"symbols": [""]},
        {"symbols": ["to German"]},
        {"symbols": ["to\tGerman"]},
        {"symbols": ["e\u0301", "é"]},
        {"symbols": ["<2de>"], "kind": "word"},
        {"symbols": ["<S>"]},
    ],
)
def test_options_that_cannot_be(options):
    with pytest.raises(ConfigError):
        Vocabulary.train(["a"], **{"size": 100} | options)


@pytest.mark.parametrize("fault", [CorpusError("train.de:7: broken"), KeyboardInterrupt()])
def test_an_error_while_reading_lines_comes_through(fault):
    def lines():
        yield "good"
        raise fault

    with pytest.raises(type(fault)) as caught:
        Vocabulary.train(lines(), 100)
    assert caught.value is fault


@pytest.mark.parametrize("kind", KINDS)
def test_lines_of_any_length_are_learned_from(kind):
    lines = ["short", "word " * 50_000 + "Ж", "x" * 100_000 + " Ω " + "日" * 30_000, "\u00a0" * 3_000]
    start = time.process_time()
    text = train(lines, 100, kind=kind).decode([range(100)])[0]
    assert time.process_time() - start < 10, "SentencePiece by itself needs minutes"
    assert all(letter in text for letter in ("Ж", "Ω", "日", "x", "\u00a0"))


@pytest.mark.parametrize("kind", KINDS)
def test_long_lines_give_the_same_vocabulary_as_their_words_apart(kind):
    words = [f"{n}{'abc'[n % 3]}" for n in range(3_000)]
    joined, apart = train([" ".join(words)], 300, kind=kind), train(words, 300, kind=kind)
    assert {*joined.tokens(range(300))} == {*apart.tokens(range(300))}


@given(st.lists(st.text(max_size=12), max_size=5), st.integers(5, 60), st.sampled_from(KINDS), st.booleans())
@few
def test_tiny_corpora_train_or_say_why(lines, size, kind, byte_fallback):
    byte_fallback = byte_fallback and kind != "word"
    size += 256 * byte_fallback
    try:
        vocabulary = train(lines, size, kind=kind, byte_fallback=byte_fallback)
    except VocabularyError as error:
        said = str(error)
        assert "\n" not in said
        assert "SentencePiece cannot" not in said, "a cause that we know not"
    else:
        assert len(vocabulary) <= size


def test_save_and_load(vocabulary, tmp_path):
    path = tmp_path / "new folder" / "source.model"
    vocabulary.save(path)
    vocabulary.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["source.model"]
    for copy in (
        Vocabulary.load(path),
        Vocabulary.from_bytes(vocabulary.to_bytes()),
        pickle.loads(pickle.dumps(vocabulary)),
    ):
        assert copy.fingerprint == vocabulary.fingerprint
        assert copy.encode(LINES) == vocabulary.encode(LINES)


def test_a_failed_save_leaves_the_old_file(vocabulary, tmp_path):
    folder = tmp_path / "source.model"
    folder.mkdir()
    with pytest.raises(VocabularyError, match="cannot be written"):
        vocabulary.save(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_files_that_are_no_vocabulary(tmp_path, capfd):
    path = tmp_path / "source.model"
    with pytest.raises(VocabularyError, match=r"source\.model: cannot be read"):
        Vocabulary.load(path)
    for content in (b"", b"\0", b"hello", "héllo wörld\n".encode() * 100):
        path.write_bytes(content)
        with pytest.raises(VocabularyError, match=r"source\.model: "):
            Vocabulary.load(path)
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file_is_refused_wherever_it_was_cut():
    model = train(size=120).to_bytes()
    normaliser = len(b"identity") + 6  # The last part says what is the default anyway: without it nothing changes.
    for length in range(len(model) - normaliser):
        with pytest.raises(VocabularyError):
            Vocabulary.from_bytes(model[:length])


def test_a_sentencepiece_model_of_others_is_refused():
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, vocab_size=100, minloglevel=3
    )
    with pytest.raises(VocabularyError, match="must be ids 0 to 3"):
        Vocabulary.from_bytes(model.getvalue())


@few
@given(text=st.one_of(st.sampled_from(LINES), st.text(alphabet="the run▁ \t<日é", max_size=30)))
def test_every_token_belongs_to_its_words(vocabulary, text):
    (ids,) = vocabulary.encode([text])
    words = canonical(text).split(" ") if canonical(text) else []
    spans = vocabulary.words(text)
    assert len(spans) == len(ids)
    assert sorted({number for span in spans for number in span}) == list(range(len(words)))
    for i, span in zip(ids, spans, strict=True):
        assert len(span) == 1 or (i == UNK_ID and len(span) > 1)
    for number, word in enumerate(words):
        own = [i for i, span in zip(ids, spans, strict=True) if number in span]
        if UNK_ID not in own:
            assert vocabulary.decode([own]) == [word]
    if UNK_ID not in ids:
        assert vocabulary.decoded_words(ids) == [span.start for span in spans]


def test_decoded_tokens_belong_to_the_words_that_are_shown(vocabulary):
    ids = [*vocabulary.encode(["the small"])[0], UNK_ID, UNK_ID, *vocabulary.encode(["dogs"])[0]]
    assert len(vocabulary.decode([ids])[0].split(" ")) == max(vocabulary.decoded_words(ids)) + 1 == 5
    assert vocabulary.decoded_words([]) == []


def test_the_spellings_of_the_tokens_spell_the_text(vocabulary, bytewise):
    for text in [*LINES[:9], *HARD_TEXTS, ""]:
        (ids,) = vocabulary.encode([text])
        assert b"".join(vocabulary.spellings[i] for i in ids) == vocabulary.spell(text)
        (ids,) = bytewise.encode([text])
        assert b"".join(bytewise.spellings[i] for i in ids) == bytewise.spell(text)
    assert vocabulary.spellings[: UNK_ID + 3] == [b""] * 4


def test_a_word_vocabulary_knows_that_it_is_one():
    assert [train(kind=kind).holds_whole_words for kind in KINDS] == [False, False, False, True]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_a_symbol_is_one_token_wherever_it_stands(kind):
    vocabulary = train(kind=kind, symbols=["<2de>", "a,b", "<s>"])
    for text in ("<2de> the small dogs", "x<2de>y", "<2de><2de>", "<2de>a,b a,b<s><S>"):
        (ids,) = vocabulary.encode([text])
        tokens = vocabulary.tokens(ids)
        for symbol in ("<2de>", "a,b", "<s>"):
            assert tokens.count(symbol) == text.count(symbol)
        assert not {BOS_ID, EOS_ID} & set(ids), "it is text still"
    sampler = vocabulary.sampler(0.1) if kind != "char" else None
    for seed in range(9 if sampler else 0):
        ids = sampler.sample("the<2de> small <2de>dogs a,b", seed)
        assert [token for token in vocabulary.tokens(ids) if token in ("<2de>", "a,b")] == ["<2de>", "<2de>", "a,b"]
        assert vocabulary.decode([ids]) == ["the<2de> small <2de>dogs a,b"]


def test_a_symbol_that_the_text_has_not_is_told():
    with pytest.warns(UserWarning, match=r"symbols should occur in the text, and these do not: <2DE>, é$"):
        Vocabulary.train(["<2de> the dogs run"] * 9, 99, kind="char", symbols=["<2de>", "<2DE>", "é"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Vocabulary.train(["<2de> the dogs e\u0301"] * 9, 99, kind="char", symbols=["<2de>", "é"])


def test_a_token_is_found_as_it_is_shown(vocabulary):
    for i, token in enumerate(vocabulary.tokens(range(len(vocabulary)))):
        assert vocabulary.tokens([vocabulary.find(token)]) == [token]
        assert "▁" in token.removeprefix("▁") or token == "▁" or vocabulary.find(token) == i
    assert vocabulary.find("no such token") is None


def test_a_file_in_place_of_a_folder_is_one_line(vocabulary, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(VocabularyError, match=r"source\.model: cannot be written \((Not a dir|File exists)"):
        vocabulary.save(tmp_path / "file" / "source.model")

"""Which word was made of which, over words as a reader counts them."""

import pytest
import torch
from configurations import SMALL
from translators import SEARCH, TEXTS, VOCABULARY, build, packaged

from seq2seq.config import UNK_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.translator import Translation, Translator
from seq2seq.translator.alignment import align, most_attended_word, over_source_words
from seq2seq.translator.display import align_copies, copied_spans, copy_unknown
from seq2seq.vocabulary import Vocabulary

WORDS = Vocabulary.train(["the quick brown fox jumps over a lazy dog"], 13, kind="word")


def test_attention_to_tokens_becomes_attention_to_words() -> None:
    # Three words of two, one and one tokens, the last token being shared by two words; then the end.
    attention = torch.tensor([[0.1, 0.2, 0.3, 0.3, 0.1], [0.0, 0.0, 0.0, 0.2, 0.8]])
    words = [range(1), range(1), range(1, 2), range(2, 4)]
    expected = torch.tensor([[0.3, 0.3, 0.15, 0.15, 0.1], [0.0, 0.0, 0.1, 0.1, 0.8]])
    assert torch.allclose(over_source_words(attention, words), expected)


def test_a_word_belongs_to_the_word_that_its_tokens_looked_at_most() -> None:
    attention = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.9, 0.0, 0.1], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0]])
    # The first two tokens are one word; the last row is the translation's end.
    assert align(attention, [0, 0, 1, 2]) == [(1, 0), (0, 1)]
    assert align(attention[:1], []) == []
    assert most_attended_word(attention[3]) == 0
    assert most_attended_word(torch.tensor([1.0])) is None


@pytest.mark.parametrize("attention", ["general", "multi_head"])
def test_alignments_point_at_words_of_both_texts(attention: str) -> None:
    translator = build(SMALL.model_copy(update={"attention": attention}))
    texts = [*TEXTS, "fox\t dog   over", "日本 a"]
    for text, found in zip(texts, translator.generate(texts, SEARCH, alignments=True), strict=True):
        for one in found:
            if not text.strip():
                assert one.alignment is None
                continue
            assert [target for _, target in one.alignment] == sorted({target for _, target in one.alignment})
            assert all(target < len(one.text.split(" ")) for _, target in one.alignment)
            assert all(source < len(VOCABULARY.split(text)) for source, _ in one.alignment)
            assert one.attention is None


def test_alignments_are_written_as_other_tools_read_them() -> None:
    assert Translation("a b", [], 0.0, [], alignment=[(1, 0), (0, 1)]).pharaoh == "1-0 0-1"
    assert Translation("", [], 0.0, []).pharaoh == ""


def test_the_whole_of_an_unknown_token_is_copied() -> None:
    source = "the Lancelot Percival fox"
    spans = WORDS.words(source)
    assert [len(span) for span in spans] == [1, 2, 1]
    tokens = [*WORDS.encode(["a"])[0], UNK_ID, *WORDS.encode(["dog"])[0]]
    attention = torch.tensor([[1.0, 0, 0, 0, 0], [0.1, 0.3, 0.3, 0.2, 0.1], [0, 0, 0, 1.0, 0]])
    copies = copied_spans(tokens, spans, attention)
    assert copies == [None, range(1, 3), None]
    assert copy_unknown(["a", "⁇", "dog"], WORDS.split(source), copies) == "a Lancelot Percival dog"
    # The words behind the copied ones have other numbers than before.
    assert align_copies([(0, 0), (1, 1), (3, 2)], copies) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert align_copies([(3, 2)], copies) == [(1, 1), (2, 2), (3, 3)], "one that looked at the end has no source word"


def test_unknown_words_are_replaced_where_a_model_says_unk() -> None:
    one = packaged(source=WORDS, target=WORDS)
    with torch.no_grad():
        one.model.output.bias[UNK_ID] = 3.0
    translator = Translator(one)
    texts = ["the Lancelot fox", "dog"]
    search = SearchConfig(beam_size=2, n_best=2, max_length=4)
    plain, replaced = (
        translator.generate(texts, search, replace_unk=wanted, alignments=True) for wanted in (False, True)
    )
    count = 0
    for text, ours, theirs in zip(texts, replaced, plain, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.tokens == other.tokens
            assert "⁇" not in one.text
            source_of = {target: source for source, target in one.alignment}
            for number, (mine, its) in enumerate(zip(one.text.split(" "), other.text.split(" "), strict=True)):
                if its == "⁇":
                    assert text.split(" ")[source_of[number]] == mine
                assert mine in text.split(" ") if its == "⁇" else mine == its
                count += its == "⁇"
    assert count


def test_what_cannot_be_is_refused() -> None:
    deaf = build(SMALL.model_copy(update={"attention": "none"}))
    for name in ("attention", "alignments", "replace_unk"):
        with pytest.raises(ConfigError, match=f"{name} needs a model with attention"):
            deaf.generate(["a"], **{name: True})
    with pytest.raises(ConfigError, match="needs a target vocabulary of whole words"):
        build().generate(["a"], replace_unk=True)
    with pytest.raises(ConfigError, match="has nothing to replace"):
        Translator(packaged(target=WORDS)).generate(["a"], SearchConfig(forbid_unk=True), replace_unk=True)
    with pytest.raises(ConfigError, match="has nothing to replace"):
        Translator(packaged(target=WORDS)).generate(["a"], SearchConfig(forbidden_tokens=(UNK_ID,)), replace_unk=True)

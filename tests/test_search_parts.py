"""The parts of the search that can be tested alone: top tokens, ensembles, the attention of a model's steps."""

import math

import pytest
import torch
from configurations import SMALL
from oracles_search import ToyNetwork, ToyState

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.model import Seq2Seq
from seq2seq.search import EnsembleState, ensemble_step, search, topk
from seq2seq.search.rules import Rules


@pytest.mark.parametrize("few", [0, topk.FEW])
@pytest.mark.parametrize("size", [6, 63, 64, 65, 300])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("count", [1, 9, 150])
def test_the_best_tokens_are_those_of_a_full_sort(
    size: int, width: int, count: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "FEW", few)
    generator = torch.Generator().manual_seed(size)
    log_probs = torch.randn(4 * width, size, generator=generator)
    so_far = torch.randn(4, width, generator=generator)
    log_probs[:, [PAD_ID, BOS_ID]] = 9.0
    log_probs[::2, EOS_ID] = 9.0
    if width > 1:
        so_far[1, 1] = -torch.inf
        so_far[2] = -torch.inf
    may_end, may_go_on = torch.tensor([True, False, True, True]), torch.tensor([True, True, True, False])
    best, parents, tokens = topk.best_continuations(log_probs, so_far, may_end, may_go_on, count)
    allowed = log_probs.view(4, width, size) + so_far[:, :, None]
    allowed[:, :, [PAD_ID, BOS_ID]] = -torch.inf
    allowed[1, :, EOS_ID] = -torch.inf
    allowed[3, :, EOS_ID + 1 :] = -torch.inf
    allowed[3, :, :EOS_ID] = -torch.inf
    for row in range(4):
        expected = allowed[row].flatten().sort(descending=True).values[:count]
        assert torch.equal(best[row][: len(expected)], expected)
        there = best[row] > -torch.inf
        assert torch.equal(allowed[row, parents[row][there], tokens[row][there]], best[row][there])
        assert tokens[row].max() < size
        pairs = list(zip(parents[row][there].tolist(), tokens[row][there].tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("few", [0, topk.FEW])
def test_nan_is_never_chosen(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk, "FEW", few)
    log_probs = torch.zeros(1, 130)
    log_probs[0, [3, 100]] = torch.nan
    always = torch.tensor([True])
    best, _, tokens = topk.best_continuations(log_probs, torch.zeros(1, 1), always, always, 130)
    assert not best.isnan().any()
    assert not {3, 100} & set(tokens[best > -torch.inf].tolist())


def test_of_equally_good_tokens_the_first_is_taken_in_any_company() -> None:
    log_probs = -torch.randint(5, (200, 500), generator=torch.Generator().manual_seed(1)).float()
    log_probs[:, : EOS_ID + 1] = -9.0

    def best(rows: torch.Tensor) -> list[int]:
        allowed = torch.ones(len(rows), dtype=torch.bool)
        _, _, tokens = topk.best_continuations(rows, torch.zeros(len(rows), 1), allowed, allowed, 1)
        return tokens[:, 0].tolist()

    assert len(log_probs[0]) < topk.FEW < log_probs.numel()
    assert best(log_probs) == log_probs.argmax(dim=1).tolist() == [best(row)[0] for row in log_probs.split(1)]


NETWORKS = [ToyNetwork(vocabulary_size=9, seed=seed) for seed in range(3)]


def joined(mean: str) -> tuple:
    """The same as an ensemble, one number at a time."""

    def step(tokens: torch.Tensor, state: EnsembleState) -> tuple[torch.Tensor, EnsembleState]:
        answers = [network.step(tokens, own) for network, own in zip(NETWORKS, state.members, strict=True)]
        rows = []
        for row in range(len(tokens)):
            columns = list(zip(*(answer[0][row].tolist() for answer in answers), strict=True))
            if mean == "probabilities":
                weights = [math.fsum(map(math.exp, column)) / 3 for column in columns]
            else:
                weights = [math.exp(math.fsum(column) / 3) for column in columns]
            rows.append([math.log(weight / math.fsum(weights)) for weight in weights])
        return torch.tensor(rows), EnsembleState(tuple(answer[1] for answer in answers))

    return step


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_an_ensemble_is_the_mean_of_its_members(mean: str, beam_size: int) -> None:
    config, sentences, lengths = SearchConfig(beam_size=beam_size, max_length=8), torch.tensor([1, 2, 3]), torch.ones(3)
    state = EnsembleState(tuple(network.start(sentences) for network in NETWORKS))
    found = search(ensemble_step([network.step for network in NETWORKS], mean), state, lengths.long(), config)
    truth = search(joined(mean), state, lengths.long(), config)
    for (one,), (true,) in zip(found, truth, strict=True):
        assert one.tokens == true.tokens
        assert one.token_log_probs == pytest.approx(true.token_log_probs, abs=1e-5)


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
def test_a_member_with_itself_is_itself(mean: str) -> None:
    network, lengths = NETWORKS[0], torch.tensor([4, 4])
    state = network.start(torch.tensor([1, 2]))
    config = SearchConfig(beam_size=3, max_length=8, coverage_penalty=0.3)
    alone = search(network.step, state, lengths, config)
    twice = search(ensemble_step([network.step] * 2, mean), EnsembleState((state, state)), lengths, config)
    for (one,), (two,) in zip(alone, twice, strict=True):
        assert one.tokens == two.tokens
        assert one.score == pytest.approx(two.score, abs=1e-5)


def test_an_ensemble_needs_members_of_one_vocabulary() -> None:
    with pytest.raises(ConfigError, match="at least one member"):
        ensemble_step([])
    other = ToyNetwork(vocabulary_size=8, seed=0)
    start = torch.tensor([1])
    state = EnsembleState((NETWORKS[0].start(start), other.start(start)))
    with pytest.raises(ConfigError, match=r"share their target vocabulary, got sizes \[9, 8\]"):
        ensemble_step([NETWORKS[0].step, other.step])(torch.tensor([BOS_ID]), state)


def test_an_ensemble_attends_only_where_all_do_alike() -> None:
    def blind(tokens: torch.Tensor, state: ToyState) -> tuple[torch.Tensor, ToyState]:
        log_probs, state = NETWORKS[1].step(tokens, state)
        return log_probs, ToyState(state.hidden)

    start = NETWORKS[0].start(torch.tensor([1]))
    step = ensemble_step([NETWORKS[0].step, blind])
    _, state = step(torch.tensor([BOS_ID]), EnsembleState((start, start)))
    assert state.attention is None


@pytest.mark.parametrize(
    "variant",
    [{"attention": kind} for kind in ("general", "additive", "multi_head")]
    + [{"input_feeding": True}, {"output_attention": True}, {"reverse_source": True}],
)
def test_a_models_steps_tell_their_attention(variant: dict[str, object]) -> None:
    """That of the steps is that of the whole target at once; and coverage divides it by sentence."""
    torch.manual_seed(0)
    model = Seq2Seq(SMALL.model_copy(update=variant)).eval()
    source, lengths = torch.tensor([[4, 5, 6, 7, EOS_ID], [8, 9, EOS_ID, PAD_ID, PAD_ID]]), torch.tensor([5, 3])
    target = torch.tensor([[5, 6, 7, EOS_ID], [7, 7, 8, EOS_ID]])
    with torch.no_grad():
        state = model.start(model.encode(source, lengths))
        assert state.attention is None
        steps, tokens = [], torch.full((2,), BOS_ID)
        for column in target.unbind(dim=1):
            _, state = model.step(tokens, state)
            steps.append(state.attention)
            tokens = column
        whole = model.attend(source, lengths, target)
    if variant.get("reverse_source"):
        # The steps tell it in the order in which the encoder has read.
        whole = torch.stack([whole[0][:, [3, 2, 1, 0, 4]], whole[1][:, [1, 0, 2, 3, 4]]])
    torch.testing.assert_close(torch.stack(steps, dim=1), whole)
    assert state.select(torch.tensor([1])).attention is None


def test_a_model_without_attention_is_refused_coverage() -> None:
    model = Seq2Seq(SMALL.model_copy(update={"attention": "none"})).eval()
    lengths = torch.tensor([3])
    with torch.no_grad():
        state = model.start(model.encode(torch.tensor([[4, 5, EOS_ID]]), lengths))
    with pytest.raises(ConfigError, match="coverage_penalty needs a model with attention"):
        search(model.step, state, lengths - 1, SearchConfig(coverage_penalty=0.1))


def test_rules_copy_only_where_they_have_a_say() -> None:
    log_probs, history = torch.randn(2, 9).log_softmax(dim=-1), torch.tensor([[5, 6, 7, 8], [8, 7, 6, 5]])
    begin = Rules.of(SearchConfig(), [(5, 6), ()], torch.device("cpu"))
    no_repeat = Rules.of(SearchConfig(no_repeat_ngram=3), None, torch.device("cpu"))
    for rules, last in ((begin, 1), (no_repeat, None)):
        for length in range(4):
            applied = rules.apply(log_probs, history[:, :length], length, sentences=2)
            has_a_say = length <= last if last is not None else length >= 3
            assert (applied is not log_probs) == has_a_say

"""From batches to counted positions: the shift by one, which rows, what stands beside them."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.training.dataset import batching
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.logprobs import batch_log_probs, build_inputs

WIDTH = 8


class ByPlace:
    """A model whose state says where it was computed: the row's first token and the position. Logits are the state."""

    config = SimpleNamespace()

    def __init__(self):
        self.base_model = self

    def __call__(self, input_ids, use_cache=False, position_ids=None):
        count, length = input_ids.shape
        at = torch.arange(length).expand(count, -1) if position_ids is None else position_ids
        first = input_ids[:, :1].expand(-1, length)
        return SimpleNamespace(last_hidden_state=torch.stack([first, at], -1).double())

    def get_output_embeddings(self):
        return lambda states: torch.nn.functional.one_hot(states[:, 1].long(), WIDTH).double() * 3


def row(ids, weights, prompt=1, **columns):
    return TokenizedRow.of(0, ids, weights, prompt, columns)


def batch(*rows):
    return batching.collate([[one] for one in rows])


def test_a_target_is_predicted_by_the_state_before_it_in_its_own_row():
    x = build_inputs(
        ByPlace(),
        batch(row([10, 11, 12, 13], [0, 0, 1, 0.5]), row([20, 21], [0, 2])),
        normaliser=2.0,
    )
    assert x.hidden_ND.tolist() == [[10, 1], [10, 2], [20, 0]]
    assert x.targets_N.tolist() == [12, 13, 21]
    assert x.weights_N.tolist() == [0.5, 0.25, 1.0]
    assert x.groups_N.tolist() == [0, 0, 1] and x.lengths().tolist() == [2, 1]


def test_the_first_token_is_never_a_target_and_rows_may_have_none():
    x = build_inputs(ByPlace(), batch(row([10, 11], [1, 0]), row([20, 21, 22], [0, 0, 1])))
    assert (
        x.targets_N.tolist() == [22]
        and x.groups_N.tolist() == [1]
        and x.lengths().tolist() == [0, 1]
    )


def test_columns_stand_at_their_targets():
    made = batch(
        row([10, 11, 12], [0, 1, 0], reference=[0.0, -1.0, -9.0], sampled=[0.0, -2.0, -9.0], advantages=[7, 8.0, 9]),
        row([20, 21, 22, 23], [0, 0, 1, 1], reference=[0, 0, -3.0, -4.0], sampled=[0, 0, -5.0, -6.0],
            advantages=[0, 0, 1.0, 2.0]),
    )  # fmt: skip
    x = build_inputs(ByPlace(), made, needs=("reference",))
    assert x.reference_N.tolist() == [-1, -3, -4]
    assert x.sampled_N.tolist() == [-2, -5, -6] and x.advantages_N.tolist() == [8, 1, 2]
    assert build_inputs(ByPlace(), made).reference_N is None


def test_kept_entries_are_those_of_the_target():
    kept = {
        "cached_ids": torch.tensor([[0, 0], [1, 2], [3, 4]], dtype=torch.int32),
        "cached_logp": torch.zeros(3, 2).half(),
    }
    x = build_inputs(
        ByPlace(), batch(row([10, 11, 12], [0, 0, 1], **kept)), needs=("distribution",)
    )
    assert x.teacher.ids_NK.tolist() == [[3, 4]] and x.teacher.ids_NK.dtype == torch.long
    assert x.teacher.logp_NK.dtype == torch.float32


def test_a_teacher_gives_states_at_the_same_places_or_its_logp():
    made = batch(row([0, 1, 2, 3], [0, 0, 1, 1]))
    x = build_inputs(ByPlace(), made, teacher=ByPlace(), needs=("distribution",))
    assert torch.equal(x.teacher.hidden_NDt, x.hidden_ND)
    x = build_inputs(ByPlace(), made, teacher=ByPlace(), needs=("logp",))
    right = 3 - torch.tensor([[3.0] + [0.0] * (WIDTH - 1)]).logsumexp(-1)
    # State at place 1 says "1" and the target is 2: wrong both times, by three nats.
    assert x.teacher.logp_N.tolist() == pytest.approx([float(right) - 3] * 2)
    column = batch_log_probs(ByPlace(), made)
    assert column[0, :2].tolist() == [0, 0] and column[0, 2:].tolist() == pytest.approx(
        x.teacher.logp_N.tolist()
    )


def test_labels_are_those_of_rows_and_pairs_those_of_items():
    pair = [row([10, 11], [0, 1]), row([20, 21], [0, 1])]
    made = batching.collate([pair, pair])
    x = build_inputs(ByPlace(), made, needs=("labels",))
    assert x.labels_S.tolist() == [True, False, True, False]
    assert x.pairs_P2.tolist() == [[0, 1], [2, 3]]

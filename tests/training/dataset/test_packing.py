"""Packed rows: the same states, losses and gradients as side by side; no row sees another."""

import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import learnt, pairs, rows
from slow_cases import slow_except
from tiny import tiny_checkpoint as make_checkpoint
from transformers import AutoModelForCausalLM

from potstill.errors import StageError
from potstill.training.dataset import batching
from potstill.training.dataset.batching import plan_batches
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.fit import fit
from potstill.training.logprobs import counted_states
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import batch_loss


def test_rows_go_where_they_fit_first_longest_first():
    assert batching.pack_bins([3, 9, 4, 2, 5], 9) == [[1], [4, 2], [0, 3]]
    assert batching.pack_bins([3, 9, 4], 16) == [[1, 2, 0]]
    assert batching.pack_bins([2, 2], 1) == [[0], [1]]  # longer than the capacity: alone


def test_the_layout_by_hand():
    found = batching.plan_layout([1, 3, 2], 3)
    assert found.source_CL.tolist() == [[3, 4, 5], [6, 7, 0]]
    assert found.position_CL.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert found.place_BT.tolist() == [[5, 0, 0], [0, 1, 2], [3, 4, 0]]


def test_golden_padding_free_row():
    """Case sft_padding_free: (1, 2, 3) and (4, 5) as one row; no token of the one is predicted from the other."""
    found = batching.plan_layout([3, 2], 3, one_bin=True)
    ids = torch.tensor([[1, 2, 3], [4, 5, 0]])
    assert ids.flatten()[found.source_CL].tolist() == [[1, 2, 3, 4, 5]]
    assert found.position_CL.tolist() == [[0, 1, 2, 0, 1]]
    counted = (
        torch.tensor([[0, 1, 1], [1, 1, 0]])[:, 1:] > 0
    )  # targets: the first token of a row is never one
    assert found.place_BT[:, :-1][counted].tolist() == [0, 1, 3]  # where 2, 3 and 5 are predicted


@pytest.fixture(params=[("qwen3", "sdpa"), ("qwen3", "eager"), ("qwen2", "sdpa")], ids="-".join)
def model(request, tmp_path):
    arch, attention = request.param
    path = make_checkpoint(tmp_path / arch, arch)
    return AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float64, attn_implementation=attention
    )


def batch_of(model, lengths):
    torch.manual_seed(0)
    made = []
    for length in lengths:
        ids = torch.randint(3, 300, (length,)).tolist()
        made.append(TokenizedRow.of(0, ids, [0.0, *[1.0] * (length - 1)], 1))
    return batching.collate_rows(made)


def test_states_and_gradients_are_those_of_rows_side_by_side(model):
    batch = batch_of(model, [5, 17, 2, 9, 30, 1, 8])
    counted = batch["loss_weights"][:, 1:] > 0
    found = []
    for packed in (False, True):
        model.zero_grad()
        states = counted_states(model, batch, counted, packing=packed)
        (states**2).sum().backward()
        found.append(
            [states.detach(), *[p.grad.clone() for p in model.parameters() if p.grad is not None]]
        )
    assert len(found[0]) > 20
    for apart, together in zip(*found):
        torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-10)


def test_a_row_does_not_feel_what_it_is_packed_with(model):
    """Contamination: another token in one row changes no other row's state by even a bit."""
    batch = batch_of(model, [9, 4, 4])  # the two short ones share a sequence
    counted = batch["loss_weights"][:, 1:] > 0
    with torch.no_grad():
        before = counted_states(model, batch, counted, packing=True)
        batch["input_ids"][1, 1] = (batch["input_ids"][1, 1] + 7) % 300
        after = counted_states(model, batch, counted, packing=True)
    assert batching.pack_bins([8, 3, 3], 8) == [[0], [1, 2]]
    assert torch.equal(before[:8], after[:8]) and torch.equal(before[11:], after[11:])
    assert not torch.allclose(before[9:11], after[9:11])


def test_the_check_finds_a_model_that_mixes_rows(model):
    batching.check_packing(model.base_model)

    class Mixing(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.config, self.device = base, base.config, base.device

        def forward(self, input_ids, position_ids=None, use_cache=False):
            mask = torch.ones_like(input_ids)  # a mask key: rows of one sequence see each other
            return self.base(
                input_ids, position_ids=position_ids, attention_mask=mask, use_cache=use_cache
            )

    with pytest.raises(StageError, match="does not keep packed rows apart"):
        batching.check_packing(Mixing(model.base_model))


@pytest.mark.parametrize(
    "name",
    slow_except(
        ("sft", "dpo"),
        ["sft", "length_balanced", "dpo", "redi", "forward_kl", "teacher_cache", "kto"],
    ),
)
def test_losses_and_gradients_of_every_kind_are_unpacked_ones_to_1e_6(
    tiny_checkpoint, tmp_path, name
):
    config = learnt(name, tmp_path)
    traces = pairs() if {"pairs", "labels"} & set(config.needs) else rows()
    found = []
    for packed in (False, True):
        model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
        made = dataclasses.replace(prepare_objective(config, model, packing=packed))
        dataset = dataset_for(tiny_checkpoint, traces, config)
        batch = batching.collate(made.with_reference_values(model, dataset))
        loss, _ = batch_loss(model, batch, made.normaliser_count(batch), made)
        loss.backward()
        found.append((loss.item(), [p.grad for p in model.parameters() if p.grad is not None]))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6, abs=1e-6)
    scale = max(float(grad.abs().max()) for grad in found[0][1])
    assert scale > 0
    for apart, together in zip(found[0][1], found[1][1]):
        assert float((apart - together).abs().max()) <= 1e-6 * max(scale, 1)


def dataset_for(start, traces, config):
    from transformers import AutoTokenizer

    from potstill.training.dataset.build import build_dataset
    from potstill.training.dataset.chat_template import read_chat_template

    template = read_chat_template(AutoTokenizer.from_pretrained(start))
    return build_dataset(traces, template, start, TrainingSettings(), config)


@pytest.mark.slow
def test_a_packed_training_ends_where_an_unpacked_one_does(tiny_checkpoint, tmp_path):
    settings = TrainingSettings(
        num_train_epochs=3, batch_size=4, learning_rate=1e-3, group_by_length=False, threads=1
    )
    apart = fit(rows(), tiny_checkpoint, tmp_path / "apart", settings)
    packed = fit(
        rows(), tiny_checkpoint, tmp_path / "packed", dataclasses.replace(settings, packing=True)
    )
    assert packed.losses == pytest.approx(apart.losses, rel=1e-5)
    assert (packed.tokens, packed.loss_tokens) == (apart.tokens, apart.loss_tokens)
    assert packed.key != apart.key, "the last bits may differ"
    models = [AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("apart", "packed")]
    for mine, theirs in zip(*(model.parameters() for model in models)):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-4)


def test_batch_tokens_are_those_of_the_rows_where_there_is_no_padding():
    settings = TrainingSettings(
        batch_size=0, batch_tokens=20, group_by_length=False, num_train_epochs=1
    )
    lengths = [10, 2, 2, 2, 2, 2]
    padded, packed = (
        plan_batches(lengths, dataclasses.replace(settings, packing=on)) for on in (False, True)
    )
    assert all(max(lengths[at] for at in batch) * len(batch) <= 20 for batch in padded)
    assert len(packed) == 1 and len(padded) > 1


def test_no_task_is_packed_unless_asked():
    assert not TrainingSettings().packing and not prepare_objective(ObjectiveConfig(), None).packing
    assert (
        "packing" not in TrainingSettings().identity()
        and TrainingSettings(packing=True).identity()["packing"] is True
    )

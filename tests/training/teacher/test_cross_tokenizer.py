"""A teacher of another tokenizer, end to end: it reads the same bytes, the student moves, a kill changes no bit."""

import dataclasses
import hashlib
import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import gradients_however_cut, rows
from other_tokens import other_checkpoint
from tiny import tiny_checkpoint as make_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill import objectives
from potstill.errors import StageError
from potstill.objectives.inputs import OtherVocabulary
from potstill.objectives.transport import compared
from potstill.training.dataset import batching
from potstill.training.dataset.build import build_dataset, make_tokenizer_pair
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.fit import fit
from potstill.training.logprobs import build_inputs
from potstill.training.objective_config import ObjectiveConfig, trainable
from potstill.training.objective_inputs import load_frozen, prepare_objective
from potstill.training.settings import LoraSettings, TrainingSettings
from potstill.training.teacher import cross_tokenizer
from potstill.training.teacher.cross_tokenizer import CrossTokenizerReader, TokenizerPair
from potstill.training.trainer import batch_loss

OTHERS = [
    name for name in trainable() if {"aligned", "own", "states"} & set(objectives.entry(name).needs)
]
SETTINGS = TrainingSettings(
    max_steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=0, threads=1
)


def weights(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def read(start, config, traces):
    """The student, the rows as tensors, and the objective made ready."""
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    made = prepare_objective(
        config,
        model,
        cross_tokenizer=CrossTokenizerReader(
            make_tokenizer_pair(start, TrainingSettings(), config), traces
        ),
    )
    template = read_chat_template(AutoTokenizer.from_pretrained(start))
    dataset = build_dataset(traces, template, start, TrainingSettings(), config)
    return model, made, made.with_reference_values(model, dataset)


def test_these_are_trained_across_tokenizers():
    assert set(OTHERS) == {"uld", "gold", "multilevel_ot", "dskd", "cot2align", "rkd"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bytes", "marks"])
@pytest.mark.parametrize(
    "name",
    OTHERS,
)
def test_two_steps_train(tiny_checkpoint, tmp_path, name, kind):
    config = ObjectiveConfig(
        name, teacher=other_checkpoint(tmp_path / "teacher", kind), max_new_tokens=8
    )
    done = fit(rows(), tiny_checkpoint, tmp_path / "out", SETTINGS, config=config)
    assert done.rows == 8 and not done.skipped
    assert (
        len(done.losses) == 2
        and all(map(math.isfinite, done.losses))
        and done.losses[0] != done.losses[1]
    )
    assert all(math.isfinite(value) for ends in done.stats.values() for value in ends)
    before = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert before.keys() == after.keys()  # no projection is stored with the student
    assert len([n for n in before if not torch.equal(before[n], after[n])]) > 0.9 * len(before)


@pytest.mark.slow
def test_cot2align_crosses_rows_with_what_is_left_without_their_chain(tiny_checkpoint, tmp_path):
    """Tags, a marked answer, and one whose chain can't be told, which stays alone."""
    texts = ("<think>So 7 - 0.</think>42.", "So 3 - 1 = 4. The answer is 4.", "9 - 2 = 6.")
    traces = [dataclasses.replace(row, text=text) for row, text in zip(rows(3), texts, strict=True)]
    teacher = other_checkpoint(tmp_path / "teacher")
    template = read_chat_template(AutoTokenizer.from_pretrained(tiny_checkpoint))

    def found(**constants):
        return build_dataset(
            traces,
            template,
            tiny_checkpoint,
            TrainingSettings(),
            ObjectiveConfig("cot2align", constants, teacher=teacher, max_new_tokens=8),
        )

    def spelled(row):
        return template.tokenizer.decode(row.completion_ids[:-1])

    made = found()
    assert [[spelled(row) for row in item] for item in made] == [
        [texts[0], "42."],
        [texts[1], "answer is 4."],
        [texts[2]],
    ]
    theirs = AutoTokenizer.from_pretrained(teacher)
    read = theirs.decode(made[0][1].columns["theirs"])
    assert "42." in read and "7 - 0" not in read and made[1][1].trace_index == 1
    assert all(len(item) == 1 for item in found(crossed=False))
    config = ObjectiveConfig("cot2align", teacher=teacher, max_new_tokens=8)
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    ready = prepare_objective(config, model)
    batch = batching.collate(ready.with_reference_values(model, made))
    _, seen = batch_loss(model, batch, ready.normaliser_count(batch), ready)
    counted = [int((batch["loss_weights"][at, 1:] > 0).sum()) for at in range(5)]
    assert (int(seen.stats["crossed"].total), int(seen.stats["crossed"].count)) == (
        sum(counted[:4]),
        sum(counted),
    )
    done = fit(traces, tiny_checkpoint, tmp_path / "out", SETTINGS, config=config)
    assert 0.5 < done.stats["crossed"][0] < 1 and math.isfinite(done.losses[-1])


@pytest.mark.slow
def test_what_cannot_be_aligned_is_left_out_and_told(tiny_checkpoint, tmp_path):
    teacher = other_checkpoint(tmp_path / "teacher", "marks")
    strange = [
        row if at else dataclasses.replace(row, text="Größe 7.") for at, row in enumerate(rows())
    ]
    done = fit(
        strange,
        tiny_checkpoint,
        tmp_path / "out",
        SETTINGS,
        config=ObjectiveConfig("uld", teacher=teacher, max_new_tokens=8),
    )
    assert (done.rows, dict(done.skipped)) == (
        7,
        {"for the teacher: the tokenizer does not give the text back": 1},
    )
    odd = [dataclasses.replace(row, text=row.text + "é") for row in rows()]
    with pytest.raises(StageError, match="8 of 8 rows can't be aligned"):
        fit(
            odd,
            tiny_checkpoint,
            tmp_path / "none",
            SETTINGS,
            config=ObjectiveConfig("uld", teacher=teacher, max_new_tokens=8),
        )


@pytest.mark.parametrize("kind", ["bytes", "marks"])
def test_positions_that_are_compared_have_read_the_same_text(tiny_checkpoint, tmp_path, kind):
    """By decoding: the tokens of every group spell the same on both sides, and the teacher has seen its own prompt."""
    config = ObjectiveConfig(
        "gold", teacher=other_checkpoint(tmp_path / "teacher", kind), max_new_tokens=8
    )
    model, made, found = read(tiny_checkpoint, config, rows())
    batch = batching.collate(found)
    x = made.complete_inputs(build_inputs(model, batch), model, batch)
    teacher = x.teacher
    assert isinstance(teacher, OtherVocabulary)
    mine, theirs = (
        cross_tokenizer.spell_tokenizer(tiny_checkpoint),
        cross_tokenizer.spell_tokenizer(config.teacher),
    )
    numbers = sorted(set(teacher.aligned_N.tolist()) - {-1})
    assert numbers == sorted(set(teacher.aligned_M.tolist()) - {-1}) and len(numbers) > 3 * len(
        found
    )
    cut_apart = 0
    for number in numbers:
        a, b = teacher.aligned_N == number, teacher.aligned_M == number
        assert x.groups[a].unique().tolist() == teacher.sequences_M[b].unique().tolist()
        spelled = [
            b"".join(s.token_bytes.get(t, b"end") for t in of.tolist())
            for s, of in ((mine, x.targets_N[a]), (theirs, teacher.targets_M[b]))
        ]
        assert spelled[0] == spelled[1]
        cut_apart += int(a.sum() != b.sum())
    assert cut_apart  # else both tokenizers were one
    assert int(compared(x).sum()) == len(numbers)
    shown = read_chat_template(AutoTokenizer.from_pretrained(config.teacher)).tokenizer.decode(
        batch["theirs"][0].tolist()
    )
    assert shown.startswith("<|user|>") and "<|assistant|>" in shown
    for at, b in teacher.matched_U2.tolist():
        assert mine.token_bytes.get(at) == theirs.token_bytes.get(b)


def test_the_states_are_the_teachers_own(tiny_checkpoint, tmp_path):
    config = ObjectiveConfig(
        "uld", teacher=other_checkpoint(tmp_path / "teacher"), max_new_tokens=8
    )
    model, made, found = read(tiny_checkpoint, config, rows())
    batch = batching.collate(found)
    x = made.complete_inputs(build_inputs(model, batch), model, batch)
    teacher = load_frozen(config.teacher, model)
    at = 0
    for row in found:  # alone and without padding
        columns = row[0].columns
        ids = torch.from_numpy(columns["theirs"]).long()
        counts = torch.from_numpy(columns["theirs_counted"])
        wanted = teacher.base_model(input_ids=ids[None, :-1]).last_hidden_state[0][counts[1:] > 0]
        torch.testing.assert_close(
            x.teacher.hidden_MDt[at : at + len(wanted)], wanted, atol=1e-5, rtol=1e-5
        )
        assert torch.equal(x.teacher.targets_M[at : at + len(wanted)], ids[1:][counts[1:] > 0])
        at += len(wanted)
    assert at == len(x.teacher.hidden_MDt)
    packed = dataclasses.replace(made, packing=True).complete_inputs(
        build_inputs(model, batch, packing=True), model, batch
    )
    torch.testing.assert_close(
        packed.teacher.hidden_MDt, x.teacher.hidden_MDt, atol=1e-5, rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uld", "gold", "multilevel_ot", "dskd", "cot2align"])
def test_one_step_is_the_same_however_it_is_cut(tiny_checkpoint, tmp_path, name):
    config = ObjectiveConfig(name, teacher=other_checkpoint(tmp_path / "teacher"), max_new_tokens=8)
    model, made, found = read(tiny_checkpoint, config, rows()[:4])
    grads = gradients_however_cut(model, made, found)
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0], atol=1e-5, rtol=1e-3)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A student that writes the rows' texts: a fresh one's random bytes are no text that another could read."""
    folder = tmp_path_factory.mktemp("writer")
    start = make_checkpoint(folder / "start")
    fit(
        rows(),
        start,
        folder / "out",
        TrainingSettings(
            num_train_epochs=40, batch_size=8, learning_rate=3e-3, warmup_steps=0, threads=1
        ),
    )
    return folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        ("uld", {}),
        ("gold", {"on_policy_fraction": 1, "max_new_tokens": 8}),
        ("dskd", {}),
        ("cot2align", {}),
    ],
)
def test_a_killed_training_ends_with_the_same_weights(writer, tmp_path, config):
    name, more = config
    made = ObjectiveConfig(name, teacher=other_checkpoint(tmp_path / "teacher"), **more)
    settings = dataclasses.replace(SETTINGS, max_steps=6, save_steps=2)

    def kill(label, done, total):
        if done == 4:  # the last checkpoint is of step 2
            raise Killed

    whole = fit(rows(), writer, tmp_path / "whole", settings, config=made)
    with pytest.raises(Killed):
        fit(rows(), writer, tmp_path / "killed", settings, config=made, progress=kill)
    assert list((tmp_path / "killed" / "training").glob("checkpoint-*/complete"))
    again = fit(rows(), writer, tmp_path / "killed", settings, config=made)
    assert again.losses == whole.losses
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.mark.slow
def test_what_the_student_writes_is_read_by_the_teacher(writer, tmp_path):
    config = ObjectiveConfig(
        "gold",
        teacher=other_checkpoint(tmp_path / "teacher"),
        on_policy_fraction=1,
        max_new_tokens=8,
        num_generations=2,
    )
    done = fit(rows(), writer, tmp_path / "out", SETTINGS, config=config)
    assert len(done.losses) == 2 and all(map(math.isfinite, done.losses)) and "across" in done.stats
    assert {"length", "unscored"} <= set(done.stats)


def test_a_character_that_the_limit_cut_is_left_out_alone(tiny_checkpoint, tmp_path):
    both = TokenizerPair(tiny_checkpoint, other_checkpoint(tmp_path / "teacher"), 512)
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    prompt = tokenizer("Hi")["input_ids"]
    ids = tokenizer("So 🙂🙂")["input_ids"][:-1]
    row = TokenizedRow.of(
        0, (*prompt, *ids), (*[0.0] * len(prompt), *[1.0] * len(ids)), len(prompt)
    )
    found = both.align_rollouts([row], rows()[:1]).rows[0]
    assert found is not None
    assert [number > 0 for number in found.columns["group"][len(prompt) :]] == [True] * (
        len(ids) - 3
    ) + [False] * 3


def test_a_row_that_no_teacher_reads_has_no_part_in_the_loss(tiny_checkpoint, tmp_path):
    """A text of broken characters spells differently for the teacher: its tokens count for nothing."""
    config = ObjectiveConfig(
        "uld", teacher=other_checkpoint(tmp_path / "teacher"), max_new_tokens=8
    )
    traces = rows()[:2]
    model, made, found = read(tiny_checkpoint, config, traces)
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    broken = tokenizer.convert_tokens_to_ids("Ã")  # the first byte of a longer character
    first, second = (item[0].without_columns() for item in found)
    changed = second.input_ids.copy()
    changed[second.prompt_length] = broken
    batch = batching.collate_rows([first, dataclasses.replace(second, input_ids=changed)])
    new = made.cross_tokenizer(batch)
    assert (
        new["unscored"][:, 0].tolist() == [0, 1]
        and not new["loss_weights"][1].any()
        and new["loss_weights"][0].any()
    )
    both = batch_loss(model, new, 1.0, made)[0]
    alone = batch_loss(model, batching.collate([found[0]]), 1.0, made)[0]
    torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("how", ["bf16", "lora"])
def test_it_trains_in_bfloat16_and_through_adapters(tiny_checkpoint, tmp_path, name, how):
    more = (
        {"bf16": True}
        if how == "bf16"
        else {"lora": LoraSettings(r=4), "packing": True, "gradient_checkpointing": True}
    )
    config = ObjectiveConfig(name, teacher=other_checkpoint(tmp_path / "teacher"), max_new_tokens=8)
    done = fit(
        rows(),
        tiny_checkpoint,
        tmp_path / "out",
        dataclasses.replace(SETTINGS, **more),
        config=config,
    )
    plain = fit(rows(), tiny_checkpoint, tmp_path / "plain", SETTINGS, config=config)
    assert done.losses == pytest.approx(plain.losses, rel=0.02)

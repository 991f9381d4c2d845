"""Several teachers: each row learns from its own, or from the mean of all, at hand or by their likeliest tokens."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from rolling import dataset_of, load, traces
from served_teacher import ServedTokens
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import ConfigError, StageError
from potstill.objectives import find
from potstill.objectives.inputs import Hidden, Inputs, Logits, Several
from potstill.records import Trace
from potstill.training.dataset import batching
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.settings import TrainingSettings
from potstill.training.student_key import student_key
from potstill.training.teacher.make_teacher import make_served_teacher
from potstill.training.teacher.panel import _mean_entries
from potstill.training.teacher.row_teachers import SKIPPED, assign_teachers
from potstill.training.trainer import batch_loss

WHOLE = 1000  # entries: more than the vocabulary has


def of_domains(*domains: str) -> list[Trace]:
    """Rows whose problems have a domain each; "" is none."""
    rows = []
    for row, domain in zip(traces(len(domains)), domains, strict=True):
        metadata = {"domain": domain} if domain else {}
        problem = dataclasses.replace(row.problem, metadata=metadata)
        rows.append(dataclasses.replace(row, problem=problem))
    return rows


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("teachers")
    # Of other widths than the student, as teachers are.
    return {
        "math": make_checkpoint(folder / "math", seed=7),
        "code": make_checkpoint(folder / "code", seed=8, hidden_size=48),
    }


@pytest.fixture(scope="module")
def student(tiny_checkpoint: Path) -> Any:
    return (*load(tiny_checkpoint), tiny_checkpoint)


def loss_of(student: Any, rows: list[Trace], config: ObjectiveConfig) -> float:
    """The mean loss of rows."""
    model, template, path = student
    row_teachers = None
    if config.teachers:
        row_teachers = assign_teachers(rows, config.teachers, config.teacher_by)
    inputs = prepare_objective(
        config,
        model,
        served_teacher=make_served_teacher(rows, template, config, path, row_teachers),
        row_teachers=row_teachers,
    )
    dataset = inputs.with_reference_values(model, dataset_of(rows, template))
    batch = batching.collate(list(dataset))
    loss, _ = batch_loss(model, batch, inputs.normaliser_count(batch), inputs)
    return loss.item()


@pytest.mark.parametrize("objective", ["reverse_kl", "token_kl"])
def test_each_row_learns_from_its_own_teacher(
    objective: str, student: Any, paths: dict[str, Path]
) -> None:
    rows = of_domains("code", "math", "code")
    mixed = ObjectiveConfig(objective, teachers=paths, teacher_by="domain")
    both = loss_of(student, rows, mixed)
    counts, alone = [], []
    for part, name in (([rows[0], rows[2]], "code"), ([rows[1]], "math")):
        alone.append(loss_of(student, part, ObjectiveConfig(objective, teacher=paths[name])))
        counts.append(dataset_of(part, student[1]).rows.loss_weights.values.sum())
    expected = sum(loss * count for loss, count in zip(alone, counts)) / sum(counts)
    assert both == pytest.approx(float(expected), rel=1e-5)
    # Loaded in turn, on a server, or both: the same.
    top_k = 0 if objective == "token_kl" else WHOLE
    served = {**paths, "math": ServedTokens(paths["math"])}
    panel = dataclasses.replace(mixed, teachers=served, loss_top_k=top_k)
    assert loss_of(student, rows, panel) == pytest.approx(both, abs=1e-4)


def test_an_average_is_of_probabilities(student: Any, paths: dict[str, Path]) -> None:
    rows = of_domains("", "", "")
    average = ObjectiveConfig("jsd", teachers=paths, teacher_by="average")
    at_hand = loss_of(student, rows, average)
    in_turn = dataclasses.replace(average, loss_top_k=WHOLE)
    assert loss_of(student, rows, in_turn) == pytest.approx(at_hand, abs=1e-5)
    assert loss_of(student, rows, dataclasses.replace(average, loss_top_k=4)) <= at_hand + 1e-5


@pytest.mark.parametrize("objective", ["forward_kl", "reverse_kl", "jsd", "tvd"])
def test_the_mean_distribution_is_the_one_that_is_compared(objective: str) -> None:
    torch.manual_seed(0)
    hidden, targets = torch.randn(5, 7), torch.arange(5)
    parts = (torch.randn(5, 7), torch.randn(5, 7))
    shares = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])
    several = Several(tuple(Hidden(part, lambda x: x) for part in parts), shares)
    mean = sum(share[:, None] * part.softmax(-1) for share, part in zip(shares.T, parts))
    losses = []
    for teacher in (several, Logits(mean.log())):
        x = Inputs(hidden, lambda x: x, targets, teacher=teacher)
        losses.append(find(objective)(x, chunk=2).values_N)
    torch.testing.assert_close(losses[0], losses[1])


def test_entries_of_two_teachers_are_added_by_their_ids() -> None:
    first = torch.tensor([[1, 2]]), torch.tensor([[0.6, 0.3]]).log()
    second = torch.tensor([[2, 3]]), torch.tensor([[0.8, 0.1]]).log()
    ids, log_probs = _mean_entries([first, second])
    assert ids.tolist() == [[2, 1]]
    torch.testing.assert_close(log_probs.exp(), torch.tensor([[0.55, 0.3]]))
    assert _mean_entries([first, None]) is None


def test_rows_without_a_teacher_are_refused_or_left(paths: dict[str, Path]) -> None:
    rows = of_domains("math", "law", "", "code")
    with pytest.raises(StageError, match=r"2 of 4 rows have no teacher by domain: law \(1\)"):
        assign_teachers(rows, paths, "domain")
    assert assign_teachers(rows, paths, "domain", max_dropped_share=0.5).of_trace == [
        (0,),
        (),
        (),
        (1,),
    ]
    # Another column makes another student, though it changes no id of a row.
    config = ObjectiveConfig("jsd", teachers=paths, teacher_by="domain")
    others = of_domains("code", "law", "", "math")
    keys = [student_key(some, TrainingSettings(), config).id for some in (rows, others)]
    assert keys[0] != keys[1] and [row.id for row in rows] == [row.id for row in others]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_training_by_two_teachers_in_turn_is_one_by_both_at_hand(
    tmp_path: Path, tiny_checkpoint: Path, paths: dict[str, Path], share: float
) -> None:
    rows = of_domains("math", "code", "math", "code", "law")
    settings = TrainingSettings(
        max_steps=3, batch_size=2, learning_rate=1e-3, threads=1, max_dropped_share=0.2
    )
    config = ObjectiveConfig(
        "jsd", teachers=paths, teacher_by="domain", on_policy_fraction=share, max_new_tokens=8
    )
    near = fit(rows, tiny_checkpoint, tmp_path / "near", settings, config=config)
    in_turn = dataclasses.replace(config, loss_top_k=WHOLE)
    far = fit(rows, tiny_checkpoint, tmp_path / "far", settings, config=in_turn)
    assert far.losses == pytest.approx(near.losses, abs=1e-4)
    assert near.skipped == far.skipped == {SKIPPED: 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_by": ""}, "which row has which teacher"),
        ({"teachers": {}}, "teacher_by chooses among several"),
        ({"teachers": {"math": Path("m")}}, "one teacher is no choice"),
        ({"teacher": Path("t")}, "one teacher, or several"),
        ({"objective": "minillm", "on_policy_fraction": 1.0}, "minillm has one teacher"),
        ({"objective": "uld"}, "uld has one teacher"),
        ({"teachers": {"a": Path("a"), "b": object()}}, "the teacher b scores no tokens"),
    ],
)
def test_what_contradicts_several_teachers_is_refused(changes: dict, message: str) -> None:
    given = {"teachers": {"a": Path("a"), "b": Path("b")}, "teacher_by": "domain"}
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**{"objective": "jsd", **given, **changes})

"""Who plays the roles of each method in the league, and with which values.

A method that is not named here is run as it stands: with its defaults, the study's teacher in every role that it must
have, and the study's student. What is changed is changed so that the built-in world can carry the method at all, never
because of a figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from potstill.methods import METHODS, catalogue
from potstill.studies.orion_worlds import STORY
from potstill.studies.reer_leak import REER_SETTINGS
from potstill.studies.supercorrect_step import TEMPLATE

PROGRAM = "world:oracle"  # plays what the world's small checkpoints can't: it follows the methods' prompts
# The prompt that the built-in student was taught to rewrite by.
TAUGHT_PROMPT = {"settings": {"prompt": "paper"}}
# As in `orion-arms`, `reer-leak` and `supercorrect-step`, which say why.
P_ALIGN_VALUES: Mapping[str, Any] = {"settings": dict(STORY.values["p-align"]["settings"])}
REER_VALUES: Mapping[str, Any] = {
    "settings": dict(REER_SETTINGS),
    "gate": {"min_step_share": 0, "min_length_share": 0},
}
SUPERCORRECT_VALUES: Mapping[str, Any] = {
    "steps": False,
    "settings": {**TEMPLATE, "taught_corrections": True, "other_step": "force"},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A method in the league.

    Args:
        method: its name.
        roles: its models by role, in the place of the study's; a list for a role that is played by several.
        values: of its parameters, in the place of its defaults.
        trainings: how many there are, where a rehearsal with made-up answers can't tell.
        left_out: why the built-in world can't carry it; "" where it can.
    """

    method: str
    roles: Mapping[str, str | list[str]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    trainings: int = 1
    left_out: str = ""


SPECIAL: Mapping[str, Entry] = {
    entry.method: entry
    for entry in (
        Entry("explain", {"teacher": PROGRAM}),
        Entry("orion", values=TAUGHT_PROMPT),
        Entry("pad", {"teacher": PROGRAM}),
        Entry("control_r", {"annotator": PROGRAM}),
        Entry("temporal_consistency", {"verifiers": [PROGRAM]}),
        Entry("llmquoter", {"teacher": PROGRAM}),
        Entry("memory_reason", {"teacher": PROGRAM}),
        Entry("natural_program", {"teacher": PROGRAM}),
        Entry("kpdd", {"teacher": PROGRAM}, trainings=3),
        Entry("divide_or_conquer", {"teacher": PROGRAM}),
        Entry("socratic_cot", {"teacher": PROGRAM}, trainings=2),
        Entry("sci_cot", {"teacher": PROGRAM}, trainings=2),
        Entry("elad", {"teacher": PROGRAM}),
        Entry("o1_journey", {"teacher": PROGRAM}),
        Entry("hinted", {"teacher": PROGRAM}),
        Entry("lema", {"corrector": PROGRAM}),
        Entry("supercorrect", {"teacher": PROGRAM}, SUPERCORRECT_VALUES, trainings=2),
        Entry("sert", trainings=2),
        Entry("tailored", {"teacher": PROGRAM}),
        Entry("reer", {"generator": f"{PROGRAM}?slip_rate=0.5"}, REER_VALUES),
        Entry("p_align", {"evaluator": PROGRAM}, P_ALIGN_VALUES),
        Entry("euler", values={"settings": {"rejected": "student"}}),
        Entry("mix_distillation", {"easier": PROGRAM}),
        Entry("marco_o1", left_out="its tree search takes longer than the rest of a round"),
        Entry("opencodereasoning", left_out="it writes programs, and the stories ask for a number"),
        Entry("redis", left_out="it learns rules of demonstrations, and stories have none"),
        Entry(
            "puzzle_warm_up",
            left_out="it warms up on puzzles, and the world's models know stories alone",
        ),
        Entry("cell_o1", left_out="its problems come in groups, and stories come one by one"),
    )
}


def list_entries() -> list[Entry]:
    """All methods of the catalogue, family by family."""
    names = sorted(METHODS, key=lambda name: (METHODS.files[name].family, name))
    return [SPECIAL.get(name) or Entry(name) for name in names]


def roles_of(entry: Entry, roles: Mapping[str, str]) -> dict[str, str | list[str]]:
    """The model of each role that a method must have, and of those that its entry names.

    Args:
        entry: of the method.
        roles: "teacher" and "student".
    """
    models: dict[str, str | list[str]] = {}
    for role in catalogue.method_entry(entry.method).roles:
        chosen = entry.roles.get(role.name)
        if chosen is None and role.optional:
            continue
        standard: str | list[str] = roles.get(role.name, roles["teacher"])
        if role.is_list:
            standard = [roles["teacher"], PROGRAM]
        models[role.name] = chosen or standard
    return models

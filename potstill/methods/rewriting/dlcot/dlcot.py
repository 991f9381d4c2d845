"""DLCoT: an editor takes long chains apart, marks what repeats an approach, and takes it out.

The released code (SODE) was read: the order of the calls, what each shows, how replies are checked, and which members
are deleted. Calls a chain: three split it, one each completes, labels and clusters it, and one takes something out.
Labels are GPT-4o's there too, at temperature 0.8; its last run of the errors takes out whole approaches alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Literal, TypeVar

from potstill.methods.replies import reply_of
from potstill.methods.rewriting.dlcot import prompts, structure
from potstill.methods.rewriting.dlcot.structure import Structure
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    ReferenceGate,
    Share,
    chance,
    count_reading,
    fill_template,
    is_finished,
    is_shorter,
    keep,
    keep_reasoned,
    line,
    refuse_hidden_end,
    report_shares,
    rewrite,
    right_test,
    sample,
    split_by,
    verify,
)

Reading = TypeVar("Reading")
Deleted = Literal["last", "last-two", "all"]
LAST: Mapping[Deleted, int] = {"last": 1, "last-two": 2}
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 32768}


def dlcot(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    editor: Model | None = None,
    clusterer: Model | None = None,
    *,
    arm: Literal["redundancy", "errors", "random", "whole"] = "redundancy",
    delete: Deleted = "all",
    steps: bool | None = None,
    max_new_tokens: int = 32768,
    gate: ReferenceGate = ReferenceGate(),
) -> Generator[Stage, Trainable, None]:
    """DLCoT: long chains deconstructed, simplified and repaired for distillation (Luo et al., arXiv:2503.16385).

    Learns from: the teacher's right chains without approaches and checks that repeat an earlier one.
    Needs: teacher (writes long chains), student (is trained), [editor] (splits, labels and edits them), [clusterer]
        (groups approaches by method).
    Controls: arm=errors (wrong approaches and parts go too; the paper's weaker variant), random (as many approaches and
        checks by chance: is it the redundancy?), whole (the chains as they are), delete=last (only the last of what is
        redundant goes), last-two (only the last two).
    Departure: an edited chain is a row where it is finished, right, shorter and shows as much of its chain as `gate`
        asks for; all other chains stay whole, also those that can't be taken apart. All replies are greedy. The last of
        what is redundant is the last in the chain, in the released code the last that the clusters name. The conclusion
        is not shown where approaches are grouped. With `steps` a row's steps are right too.
    Paper: 59
    Cite: Yijia Luo, Yulin Song, Xingyao Zhang, Jiaheng Liu, Weixun Wang, GengRu Chen, Wenbo Su, Bo Zheng:
        Deconstructing Long Chain-of-Thought: A Structured Reasoning Optimization Framework for Long CoT
        Distillation (2025).

    Args:
        teacher: reasons at length.
        student: learns.
        editor: the teacher, where none is given.
        clusterer: the editor, where none is given; GPT-4o in the paper.
        arm: the method or one of its controls.
        delete: which of the redundant members go, counted from the end of the chain.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        max_new_tokens: longest chain.
        gate: how much of its chain an edited one must show.
    """
    is_right = right_test(problems, steps)
    refuse_hidden_end(gate, "dlcot", "the chain is what is edited")
    editor = editor or teacher
    chains = sample(teacher, problems, temperature=0.6, max_new_tokens=max_new_tokens)
    chains = keep(is_right, verify(chains))
    rows: list[Trace] = []
    if arm != "whole":
        # Deconstruct: parts, approaches and checks, their labels and clusters.
        structures = take_apart(editor, clusterer or editor, chains)

        # Simplify: what repeats goes, and the text is mended where it went.
        removed = choose_removed(arm, delete, structures)
        show = partial(show_removed, removed)
        edited = [chain for chain in chains if removed.get(chain.line)]
        rows = keep(is_finished, rewrite(editor, edited, prompt=show, guard=False, **GREEDY))
        rows = keep(is_right, verify(rows))
        rows = keep(partial(is_shorter, {chain.line: chain.text for chain in chains}), rows)
        rows = keep_reasoned(rows, chains, by=line, gate=gate)
        report_structures(chains, structures, rows)
    _, whole = split_by(rows, chains, by=line)
    yield Stage(student, [*rows, *whole], "sft")


def take_apart(editor: Model, clusterer: Model, chains: Sequence[Trace]) -> dict[str, Structure]:
    """The structure of each chain that can be taken apart, by its line."""
    texts = {chain.line: chain.text for chain in chains}

    # Five parts, then the approaches of one and the checks of another, all word for word.
    parts = ask_about(
        editor,
        chains,
        prompts.SPLIT,
        lambda key, reply: structure.read_parts(reply, texts[key]),
        what="parts",
    )
    explored = {key: one["Exploration"] for key, one in parts.items()}
    verified = {key: one["Verification"] for key, one in parts.items()}
    solutions = ask_about(
        editor,
        [chain for chain in chains if explored.get(chain.line)],
        partial(show_part, prompts.SPLIT_EXPLORATION, explored, verified),
        lambda key, reply: structure.read_pieces(reply, explored[key]),
        what="approaches",
    )
    checks = ask_about(
        editor,
        [chain for chain in chains if verified.get(chain.line) and chain.line in solutions],
        partial(show_part, prompts.SPLIT_VERIFICATION, explored, verified),
        lambda key, reply: structure.read_pieces(reply, verified[key]),
        what="checks",
    )
    structures: dict[str, Structure] = {}
    for key, pieces in solutions.items():
        if key in checks or not verified[key]:
            structures[key] = Structure(pieces, checks.get(key, ()))

    # The last approach is completed by checks that belong to it; then labels, then clusters.
    needed = ask_about(
        editor,
        with_structure(structures, chains),
        partial(show_structure, prompts.COMPLETE, structures),
        lambda key, reply: structure.read_completion(reply, len(structures[key].checks)),
        what="completeness",
    )
    structures = {key: structures[key].completed_by(count) for key, count in needed.items()}
    labels = ask_about(
        editor,
        with_structure(structures, chains),
        partial(show_structure, prompts.LABEL, structures),
        lambda key, reply: structure.read_labels(reply, len(structures[key].solutions)),
        what="labels",
    )
    clusters = ask_about(
        clusterer,
        [chain for chain in chains if chain.line in labels],
        partial(show_structure, prompts.CLUSTER, structures),
        lambda key, reply: structure.read_clusters(reply, len(structures[key].members)),
        what="clusters",
    )
    complete: dict[str, Structure] = {}
    for key, groups in clusters.items():
        one = structures[key]
        complete[key] = Structure(one.solutions, one.checks, labels[key], groups)
    return complete


def ask_about(
    model: Model,
    chains: Sequence[Trace],
    prompt: Any,
    read: Callable[[str, str], Reading | None],
    *,
    what: str,
) -> dict[str, Reading]:
    """Ask a model about each chain, and read its replies; those that can't be read are counted and left out.

    Args:
        model: who is asked, greedily.
        chains: what is asked about.
        prompt: a template, or a function of the chain.
        read: from a chain's line and the reply to what it says, or None.
        what: is asked for, for the count.

    Returns:
        What each reply says, by the line of its chain.
    """
    readings: dict[str, Reading] = {}
    for reply in rewrite(model, chains, prompt=prompt, guard=False, **GREEDY):
        if reply.error:
            continue
        reading = read(reply.line, reply_of(reply.text))
        count_reading(f"dlcot {what}", reply.text, "unparsed" if reading is None else "strict")
        if reading is not None:
            readings[reply.line] = reading
    return readings


def with_structure(structures: Mapping[str, Structure], chains: Sequence[Trace]) -> list[Trace]:
    """The chains that have a structure."""
    return [chain for chain in chains if chain.line in structures]


def show_part(
    template: str, explored: Mapping[str, str], verified: Mapping[str, str], trace: Any
) -> str:
    """The prompt about one part of a chain."""
    values = {"work": explored[trace.line], "checks": verified[trace.line]}
    return fill_template(template, values)


def show_structure(template: str, structures: Mapping[str, Structure], trace: Any) -> str:
    """The prompt about the approaches and checks of a chain, numbered; only clusters look at both."""
    one = structures[trace.line]
    members = one.members if template == prompts.CLUSTER else one.solutions
    values = {"question": trace.question, "work": one.solutions[-1]}
    values["solutions"] = numbered("Solution", members)
    values["checks"] = numbered("Check", one.checks)
    if "{answer}" in template:
        values["answer"] = trace.problem.answer or ""
    return fill_template(template, values)


def numbered(name: str, texts: Sequence[str]) -> str:
    """Texts, each under its name and number."""
    return "\n\n".join(f"{name} {number}:\n{text}" for number, text in enumerate(texts, 1))


def choose_removed(
    arm: str, delete: Deleted, structures: Mapping[str, Structure]
) -> dict[str, list[str]]:
    """The texts that are taken out of each chain, by its line."""
    removed: dict[str, list[str]] = {}
    for key, one in structures.items():
        marked = structure.redundant_members(one)
        if arm == "errors":
            # A correct approach that leads to the first answer stays, also where it repeats. Where
            # none is called correct there is no main path, and the chain stays whole.
            last_needed = structure.main_path(one)
            if not last_needed:
                continue
            marked = [number for number in marked if number > last_needed or is_wrong(one, number)]
        elif arm == "random":
            candidates = range(2, len(one.members) + 1)
            rng = Random(chance("members", key))
            marked = sorted(rng.sample(candidates, min(len(marked), len(candidates))))
        if delete != "all":
            marked = marked[-LAST[delete] :]
        texts = [one.members[number - 1] for number in marked]
        if arm == "errors":
            texts += [text for text in structure.erroneous_texts(one) if text not in texts]
        removed[key] = texts
    return removed


def is_wrong(one: Structure, number: int) -> bool:
    """Whether an approach on the main path is not correct by itself."""
    return one.labels[number - 1].correctness != "correct"


def show_removed(removed: Mapping[str, list[str]], trace: Any) -> str:
    """The prompt that takes the marked texts out."""
    values = {"question": trace.question, "text": trace.text}
    values["removed"] = "\n\n".join(removed[trace.line])
    return fill_template(prompts.EXCISE, values)


def report_structures(
    chains: Sequence[Trace], structures: Mapping[str, Structure], rows: Sequence[Trace]
) -> None:
    """Say how many chains were taken apart, how much of them repeats, and how many were edited."""
    members = sum(len(one.members) for one in structures.values())
    repeating = sum(len(structure.redundant_members(one)) for one in structures.values())
    report_shares(
        "Chains taken apart",
        [
            Share("chains that could be taken apart", len(structures), len(chains)),
            Share("approaches and checks that repeat one", repeating, members),
            Share("chains that were edited", len(rows), len(chains)),
        ],
        hint="A chain that can't be taken apart word for word, or whose editing fails, is learnt as it is.",
    )

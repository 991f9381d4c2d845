"""The objectives side by side on the built-in world: what each reaches with the same mentor, prompts and steps.

A mentor is the world's student trained on its own right samples (rft): it writes as the student does and is right more
often. The student then learns from the mentor by every objective, with several seeds; each training is a process of its
own, whose peak memory is measured. A folder of a study goes on where it stopped.

    potstill study objectives --seeds 3 --page docs/objectives.md
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from potstill.data.trace_json import from_json, to_json
from potstill.errors import StageError
from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.intervals import difference_interval
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Model, Sampling
from potstill.records import Progress, Trace, blank
from potstill.runs.sources import CHECKPOINTS
from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.traces import Session, keep, mix, pair, plain, sample, sound, using, verify, wrong
from potstill.training.settings import TrainingSettings
from potstill.world import story

LOOP: Mapping[str, Any] = {"optimizer": "muon", "threads": 1, "save_steps": 50}


@dataclass(frozen=True, slots=True)
class Arm:
    """One objective: its config as plain data, the rows it trains on, where it starts, its rate, steps and rows a step.

    One rate and one number of steps for all, smaller ones for the second stages: nothing here was tuned arm by arm.
    """

    rows: str
    objective: str = "sft"
    constants: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    start: str = "student"
    lr: float = 1e-3
    steps: int = 120
    batch: int = 16
    needs: str = ""


PAGE = """# The objectives side by side

Written by `potstill study objectives --page docs/objectives.md`; don't edit the table by hand.

{train} training and {test} test stories of the built-in world, {n} answers a test problem at temperature 0.6, one
thread, {seeds} seeds (of the data that is drawn, of the order of rows and of rollouts). The *mentor* is the
world's student trained on its own right samples; every objective then teaches the untrained student from the
mentor. Intervals are over problems, the answers of all seeds pooled; each seed's figure stands beside it. Tokens
are those with a loss. Seconds and MiB (the peak of the training's own process, about 500 of them torch itself)
are means over seeds, on two cores shared with other work.

{table}

All arms take 120 steps of 16 rows at a rate of 1e-3 (Muon), KDRL 8 prompts of 4 rollouts; REDI and DPO are second
stages of 40 steps on the sft student of their seed, as in the REDI paper, at 5e-5 and 1e-4. Nothing was tuned arm
by arm, and equal steps are not equal cost: the columns say what each used. A world of 0.86 million parameters is
no evidence for large models; it shows that every objective trains, and what it needs.
"""

ROLLED: Mapping[str, Any] = {"teacher": "mentor", "on_policy_fraction": 1.0, "max_new_tokens": 96}
ARMS: Mapping[str, Arm] = {
    "sft": Arm("right", needs="texts"),
    "redi (after sft)": Arm(
        "pairs",
        "redi",
        {"alpha": 0.8},
        start="sft",
        lr=5e-5,
        steps=40,
        needs="texts, right and wrong",
    ),
    "dpo (after sft)": Arm(
        "pairs",
        "dpo",
        {"beta": 0.1},
        start="sft",
        lr=1e-4,
        steps=40,
        needs="texts, right and wrong",
    ),
    "forward KL": Arm("right", "forward_kl", {}, {"teacher": "mentor"}, needs="logits"),
    "forward KL, top 16": Arm(
        "right",
        "forward_kl",
        {},
        {"teacher_cache": "teacher_cache"},
        needs="16 stored entries a token",
    ),
    "GKD": Arm(
        "right", "jsd", {"beta": 0.5}, {**ROLLED, "on_policy_fraction": 0.5}, needs="logits"
    ),
    "on-policy distillation": Arm("prompts", "opd", {}, ROLLED, needs="logp of sampled tokens"),
    "KDRL": Arm(
        "prompts",
        "kdrl",
        {"beta": 0.05},
        {**ROLLED, "num_generations": 4},
        batch=8,
        needs="logp of sampled tokens, verifier",
    ),
}


class Turn(NamedTuple):
    """An arm with one seed."""

    name: str
    arm: Arm
    seed: int


@dataclass(frozen=True, slots=True)
class Study:
    """What all arms share: the folder, its store, the problems, how many answers a test problem."""

    out: Path
    store: Store
    train: Sequence[Trace]
    test: Sequence[Trace]
    n: int
    progress: Progress

    def model(self, folder: Path, arm: str, role: str, seed: int) -> Model:
        """A checkpoint behind the store."""
        return with_cache(
            TransformersModel(folder, threads=1), self.store, role=role, arm=arm, seed=seed
        )


def run(
    out: Path,
    *,
    seeds: int = 3,
    train: int = 300,
    test: int = 200,
    n: int = 4,
    arms: Mapping[str, Arm] = ARMS,
    split: str = "test",
    progress: Progress = lambda label, done, total: None,
) -> dict[str, Any]:
    """Every arm with every seed; rows of the table, the mentor and the untrained student among them."""
    with Store.open(out) as store, using(Session(verdict_cache=store.verdicts)):
        study = Study(
            out,
            store,
            [blank(p) for p in story.problems("story", size=train, seed=0, split="train")],
            [blank(p) for p in story.problems("story", size=test, seed=0, split=split)],
            n,
            progress,
        )
        student = CHECKPOINTS / "student"
        mentor, _ = _trained(
            study, Turn("mentor", Arm("right", steps=160), 0), _own(study, student), {}
        )
        base, top = _measured(study, "untrained", student, 0), _measured(study, "mentor", mentor, 0)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
        for seed in range(seeds):
            rows = _rows(study, student, mentor, seed)
            places = {"student": student, "mentor": mentor}
            for at, (name, arm) in enumerate(arms.items()):
                progress("trainings", seed * len(arms) + at, seeds * len(arms))
                found[name].append(_arm(study, Turn(name, arm, seed), rows, places))
        progress("trainings", seeds * len(arms), seeds * len(arms))
    return {
        "untrained": base,
        "mentor": top,
        "arms": found,
        "train": train,
        "test": test,
        "n": n,
        "seeds": seeds,
    }


def _own(study: Study, student: Path) -> list[Trace]:
    """The student's own samples that are right in every step: what the mentor is made of."""
    drawn = sample(
        study.model(student, "mentor", "student", 0),
        study.train,
        n=4,
        temperature=0.8,
        max_tokens=160,
    )
    return keep(sound, verify(drawn))


def _rows(study: Study, student: Path, mentor: Path, seed: int) -> dict[str, list[Trace]]:
    """A seed's data: the mentor's right samples, pairs of them with the student's wrong ones, and the bare prompts."""
    how: dict[str, Any] = {"n": 2, "temperature": 0.8, "max_tokens": 160}
    right = keep(
        sound, verify(sample(study.model(mentor, "data", "mentor", seed), study.train, **how))
    )
    mistakes = keep(
        wrong, verify(sample(study.model(student, "data", "student", seed), study.train, **how))
    )
    return {
        "right": mix(right, seed=seed),
        "pairs": pair(right, mistakes),
        "prompts": list(study.train),
    }


def _arm(
    study: Study, turn: Turn, rows: Mapping[str, list[Trace]], places: dict[str, Path]
) -> dict[str, Any]:
    """One training and its measurement."""
    mine = rows[turn.arm.rows]
    folder, report = _trained(study, turn, mine, places)
    places[turn.name] = folder
    return {**_measured(study, turn.name, folder, turn.seed), **report, "rows": len(mine)}


def _trained(
    study: Study, turn: Turn, rows: Sequence[Trace], places: Mapping[str, Path]
) -> tuple[Path, dict[str, Any]]:
    """The student's folder and what its process reported."""
    name, arm, seed = turn
    label = "".join(c if c.isalnum() else "-" for c in name)
    folder = study.out / f"seed-{seed}" / label
    report = folder.with_suffix(".json")
    if not report.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        lines = folder.with_suffix(".jsonl")
        lines.write_text("".join(to_json(row) + "\n" for row in rows), "utf-8")
        config = {k: str(places[v]) if k == "teacher" else v for k, v in arm.config.items()}
        spec: dict[str, Any] = {
            "rows": str(lines),
            "start": str(places.get(arm.start, CHECKPOINTS / "student")),
            "out": str(folder),
        }
        spec |= {
            "training": {
                **LOOP,
                "learning_rate": arm.lr,
                "max_steps": arm.steps,
                "batch_size": arm.batch,
                "seed": seed,
            }
        }
        spec |= {"config": {**config, "objective": arm.objective, "constants": dict(arm.constants)}}
        spec |= {"teacher_cache": str(places["mentor"]) if arm.config.get("teacher_cache") else ""}
        done = subprocess.run(
            [sys.executable, "-m", "potstill.studies.objectives"],
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StageError(
                f"the training of {name}, seed {seed}, failed: {done.stderr.strip()[-800:]}"
            )
        report.write_text(done.stdout.strip().splitlines()[-1], "utf-8")
    return folder, json.loads(report.read_text("utf-8"))


def _measured(study: Study, name: str, folder: Path, seed: int) -> dict[str, Any]:
    """avg@n on the test problems with each problem's share, so that arms can be compared by problem."""
    model = study.model(folder, name, "evaluation", seed)
    how = Sampling(temperature=0.6, max_tokens=160)
    solver = partial(plain, model)
    found = evaluate(
        solver, list(study.test), name=name, n=study.n, sampling=how, seed=seed, threads=1
    )
    shares = [
        sum(a.status == "right" for a in row.answers) / len(row.answers) for row in found.rows
    ]
    length = sum(a.tokens for row in found.rows for a in row.answers) / max(
        1, len(found.rows) * study.n
    )
    return {"shares": shares, "length": length}


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row an arm: mean over seeds and problems, 95 % interval over problems, each seed, tokens, time, memory."""
    base = found["untrained"]["shares"]
    rows = [_line(name, [found[name]], base) for name in ("untrained", "mentor")]
    return rows + [_line(name, runs, base) for name, runs in found["arms"].items()]


def page(found: Mapping[str, Any]) -> str:
    """The study as a page of Markdown."""
    rows = [
        {**row, "needs": ARMS[row["objective"]].needs if row["objective"] in ARMS else ""}
        for row in table(found)
    ]
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    return PAGE.format(
        table="\n".join(lines), **{k: found[k] for k in ("train", "test", "n", "seeds")}
    )


def _line(name: str, runs: Sequence[Mapping[str, Any]], base: Sequence[float]) -> dict[str, str]:
    means = [100 * sum(run["shares"]) / len(run["shares"]) for run in runs]
    pooled = [
        sum(values) / len(values) for values in zip(*(run["shares"] for run in runs), strict=True)
    ]
    gap = difference_interval([mine - theirs for mine, theirs in zip(pooled, base, strict=True)])
    against = f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    trained = "tokens" in runs[0]
    average = {
        k: sum(r[k] for r in runs) / len(runs)
        for k in ("tokens", "counted", "seconds", "peak_mib")
        if trained
    }
    return {
        "objective": name,
        "avg@n": f"{sum(means) / len(means):.1f}",
        "seeds": ", ".join(f"{mean:.1f}" for mean in means),
        "against untrained": "" if name == "untrained" else against,
        "tokens an answer": f"{sum(r['length'] for r in runs) / len(runs):.0f}",
        "tokens trained on": f"{average['counted']:,.0f}" if trained else "",
        "seconds": f"{average['seconds']:.0f}" if trained else "",
        "MiB": f"{average['peak_mib']:.0f}" if trained else "",
    }


def main() -> None:
    """Train one student in this process: a specification on standard input, a report on standard output."""
    from potstill.training.fit import fit
    from potstill.training.objective_config import ObjectiveConfig

    spec = json.load(sys.stdin)
    rows = [from_json(line) for line in Path(spec["rows"]).read_text("utf-8").splitlines()]
    start, out, config = Path(spec["start"]), Path(spec["out"]), spec["config"]
    settings = TrainingSettings(**spec["training"])
    if spec["teacher_cache"]:
        config["teacher_cache"] = _cache_teacher(
            rows, start, Path(spec["teacher_cache"]), out.with_suffix(".cache")
        )
    config |= {
        name: Path(config[name]) for name in ("teacher", "teacher_cache") if config.get(name)
    }
    done = fit(rows, start, out, settings, config=ObjectiveConfig(**config))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {
        "tokens": done.tokens,
        "counted": done.counted,
        "seconds": done.seconds,
        "steps": done.steps,
    }
    print(
        json.dumps(
            {
                **told,
                "peak_mib": peak,
                "stats": done.stats,
                "losses": [done.losses[0], done.losses[-1]],
            }
        )
    )


def _cache_teacher(rows: Sequence[Trace], start: Path, teacher: Path, folder: Path) -> Path:
    """The mentor's 16 best entries for these rows, stored."""
    from transformers import AutoTokenizer

    from potstill.training.dataset.chat_template import read_chat_template
    from potstill.training.dataset.tokenize import tokenize_traces
    from potstill.training.teacher import cached_logits

    template = read_chat_template(AutoTokenizer.from_pretrained(start, local_files_only=True))
    cached_logits.write(
        folder, teacher, tokenize_traces(rows, template, max_length=1 << 20).rows, k=16
    )
    return folder


if __name__ == "__main__":
    main()

"""The objectives side by side on the built-in world: what each reaches with the same mentor, prompts and steps.

A mentor is the world's student trained on its own right samples (rft): it writes as the student does and is right more
often. The student then learns from the mentor by every objective, with several seeds; each training is a process of its
own, whose peak memory is measured. A folder of a study goes on where it stopped.

    potstill study objectives --seeds 3 --docs docs/studies
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from potstill.data.atomic_write import write_text
from potstill.data.trace_json import from_json, to_json
from potstill.errors import ConfigError, StageError
from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.intervals import difference_interval
from potstill.evaluation.table import format_points
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Model, Sampling, Trainable
from potstill.records import Progress, Trace, blank, no_progress
from potstill.runs.sources import load_model
from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.studies.chart import Dot, DotChart
from potstill.studies.study import StudyPage, StudySettings
from potstill.traces import Session, keep, mix, pair, plain, sample, sound, using, verify, wrong
from potstill.training.settings import TrainingSettings
from potstill.world import story

COMMON_SETTINGS: Mapping[str, Any] = {"optimizer": "muon", "threads": 1, "save_steps": 50}


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
    learning_rate: float = 1e-3
    steps: int = 120
    batch_size: int = 16
    needs: str = ""


QUESTION = "What does each kind of objective reach with the same mentor, prompts and steps?"
SIZES: Mapping[str, int] = {"train": 300, "test": 200, "n": 4}
ROLES: Mapping[str, str] = {"student": "world:student"}

SETUP = """\
{train} training and {test} test stories of the built-in world, {n} answers a test problem at temperature 0.6, one
thread, {seeds} seeds (of the data that is drawn, of the order of rows and of rollouts). The *mentor* is the
student trained on its own right samples; every objective then teaches the untrained student from the mentor.
Intervals are over problems, the answers of all seeds pooled; each seed's figure stands beside it. Tokens are those
with a loss. Seconds and MiB (the peak of the training's own process, about 500 of them torch itself) are means over
seeds.

All arms take 120 steps of 16 rows at a rate of 1e-3 (Muon), KDRL 8 prompts of 4 rollouts; REDI and DPO are second
stages of 40 steps on the sft student of their seed, as in the REDI paper, at 5e-5 and 1e-4. Nothing was tuned arm
by arm, and equal steps are not equal cost: the columns say what each used.
"""

ON_POLICY: Mapping[str, Any] = {
    "teacher": "mentor",
    "on_policy_fraction": 1.0,
    "max_new_tokens": 96,
}
ARMS: Mapping[str, Arm] = {
    "sft": Arm("right", needs="texts"),
    "redi (after sft)": Arm(
        "pairs",
        "redi",
        {"alpha": 0.8},
        start="sft",
        learning_rate=5e-5,
        steps=40,
        needs="texts, right and wrong",
    ),
    "dpo (after sft)": Arm(
        "pairs",
        "dpo",
        {"beta": 0.1},
        start="sft",
        learning_rate=1e-4,
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
        "right", "jsd", {"beta": 0.5}, {**ON_POLICY, "on_policy_fraction": 0.5}, needs="logits"
    ),
    "on-policy distillation": Arm("prompts", "opd", {}, ON_POLICY, needs="logp of sampled tokens"),
    "KDRL": Arm(
        "prompts",
        "kdrl",
        {"beta": 0.05},
        {**ON_POLICY, "num_generations": 4},
        batch_size=8,
        needs="logp of sampled tokens, verifier",
    ),
}


# Sampling of the data that students are trained on, and of the answers that are measured.
DATA_SAMPLING: Mapping[str, Any] = {"temperature": 0.8, "max_new_tokens": 160}
EVALUATION_SAMPLING = Sampling(temperature=0.6, max_new_tokens=160)
MENTOR = Arm("right", steps=160)
CACHED_TOP_K = 16  # entries a token that a teacher cache keeps
KIBIBYTE = 1024


@dataclass(frozen=True, slots=True)
class Trial:
    """An arm with one seed."""

    name: str
    arm: Arm
    seed: int


@dataclass(frozen=True, slots=True)
class Study:
    """What all arms share: folder, store, problems, answers a test problem, and whether failures are asked again."""

    out: Path
    store: Store
    train: Sequence[Trace]
    test: Sequence[Trace]
    n: int
    retry_errors: bool = False

    def load_model(self, folder: Path, arm: str, role: str, seed: int) -> Model:
        """A checkpoint behind the store."""
        model = TransformersModel(folder, threads=1)
        return with_cache(
            model, self.store, role=role, arm=arm, seed=seed, retry_errors=self.retry_errors
        )


def run_study(
    settings: StudySettings,
    progress: Progress = no_progress,
    *,
    arms: Mapping[str, Arm] = ARMS,
    split: str = "test",
) -> dict[str, Any]:
    """Every arm with every seed.

    Args:
        settings: seeds, sizes, and the student, a local checkpoint.
        progress: called with (label, trainings done, trainings in all).
        arms: by name.
        split: of the stories to measure on.

    Returns:
        What `describe_study` shows: the figures of the untrained student, the mentor, and each arm's runs.
    """
    out, seeds = settings.out, settings.seeds
    train, test, n = settings.sizes["train"], settings.sizes["test"], settings.sizes["n"]
    student = student_checkpoint(settings.roles["student"])
    runs_by_arm: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    total = seeds * len(arms)
    with Store.open(out) as store, using(Session(verdict_cache=store.verdicts)):
        train_stories = [blank(p) for p in story.problems("story", size=train, split="train")]
        test_stories = [blank(p) for p in story.problems("story", size=test, split=split)]
        study = Study(out, store, train_stories, test_stories, n, settings.retry_errors)

        # The mentor is trained once, then every arm learns from it, seed by seed.
        mentor_rows = sample_right_rows(study, student)
        mentor, _ = train_arm(study, Trial("mentor", MENTOR, 0), mentor_rows, {"student": student})
        untrained_figures = measure_student(study, "untrained", student, 0)
        mentor_figures = measure_student(study, "mentor", mentor, 0)
        done = 0
        for seed in range(seeds):
            rows = collect_data(study, student, mentor, seed)
            checkpoints = {"student": student, "mentor": mentor}
            for name, arm in arms.items():
                progress("trainings", done, total)
                runs_by_arm[name].append(
                    run_trial(study, Trial(name, arm, seed), rows, checkpoints)
                )
                done += 1
        progress("trainings", total, total)
    return {
        "untrained": untrained_figures,
        "mentor": mentor_figures,
        "arms": runs_by_arm,
        "train": train,
        "test": test,
        "n": n,
        "seeds": seeds,
    }


def student_checkpoint(spec: str) -> Path:
    """The folder of the student's weights."""
    model = load_model(spec)
    if not isinstance(model, Trainable):
        raise ConfigError(
            f"{spec} has no weights to train.",
            expected="a local checkpoint",
            fix="--role student=transformers:PATH",
        )
    return model.weights


def sample_right_rows(study: Study, student: Path) -> list[Trace]:
    """The student's own samples that are right in every step: what the mentor is made of."""
    model = study.load_model(student, "mentor", "student", 0)
    return keep(sound, verify(sample(model, study.train, n=4, **DATA_SAMPLING)))


def collect_data(study: Study, student: Path, mentor: Path, seed: int) -> dict[str, list[Trace]]:
    """A seed's data: the mentor's right samples, pairs of them with the student's wrong ones, and the bare prompts."""
    samples: dict[str, list[Trace]] = {}
    for role, folder in (("mentor", mentor), ("student", student)):
        model = study.load_model(folder, "data", role, seed)
        samples[role] = verify(sample(model, study.train, n=2, **DATA_SAMPLING))
    # Pairs are the mentor's right sample and a wrong one of the student on the same story.
    right = keep(sound, samples["mentor"])
    mistakes = keep(wrong, samples["student"])
    return {
        "right": mix(right, seed=seed),
        "pairs": pair(right, mistakes),
        "prompts": list(study.train),
    }


def run_trial(
    study: Study,
    trial: Trial,
    rows_by_kind: Mapping[str, list[Trace]],
    checkpoints: dict[str, Path],
) -> dict[str, Any]:
    """One training and its measurement; the student is added to `checkpoints` for the arms that start from it."""
    rows = rows_by_kind[trial.arm.rows]
    folder, report = train_arm(study, trial, rows, checkpoints)
    checkpoints[trial.name] = folder
    figures = measure_student(study, trial.name, folder, trial.seed)
    return {**figures, **report, "rows": len(rows)}


def train_arm(
    study: Study, trial: Trial, rows: Sequence[Trace], checkpoints: Mapping[str, Path]
) -> tuple[Path, dict[str, Any]]:
    """The student's folder and what its process reported; a training that ended is not run again."""
    label = re.sub(r"[\W_]", "-", trial.name)
    folder = study.out / f"seed-{trial.seed}" / label
    report = folder.with_suffix(".json")
    if not report.is_file():
        rows_file = folder.with_suffix(".jsonl")
        write_text(rows_file, "".join(to_json(row) + "\n" for row in rows))
        specification = training_specification(trial, rows_file, folder, checkpoints)
        # A process of its own, so that its peak of memory is that of this training.
        process = subprocess.run(
            [sys.executable, "-m", "potstill.studies.objectives"],
            input=json.dumps(specification),
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            raise StageError(
                f"the training of {trial.name}, seed {trial.seed}, failed: {process.stderr.strip()[-800:]}"
            )
        write_text(report, process.stdout.strip().splitlines()[-1])
    return folder, json.loads(report.read_text("utf-8"))


def training_specification(
    trial: Trial, rows_file: Path, folder: Path, checkpoints: Mapping[str, Path]
) -> dict[str, Any]:
    """What the training's process reads from its standard input."""
    arm = trial.arm
    config: dict[str, Any] = {
        **arm.config,
        "objective": arm.objective,
        "constants": dict(arm.constants),
    }
    if "teacher" in config:
        config["teacher"] = str(checkpoints[config["teacher"]])
    return {
        "rows": str(rows_file),
        "start": str(checkpoints[arm.start]),
        "out": str(folder),
        "training": {
            **COMMON_SETTINGS,
            "learning_rate": arm.learning_rate,
            "max_steps": arm.steps,
            "batch_size": arm.batch_size,
            "seed": trial.seed,
        },
        "config": config,
        "teacher_cache": str(checkpoints["mentor"]) if config.get("teacher_cache") else "",
    }


def measure_student(study: Study, name: str, folder: Path, seed: int) -> dict[str, Any]:
    """avg@n on the test problems with each problem's share, so that arms can be compared by problem."""
    evaluation = evaluate(
        partial(plain, study.load_model(folder, name, "student", seed)),
        list(study.test),
        name=name,
        n=study.n,
        sampling=EVALUATION_SAMPLING,
        seed=seed,
        threads=1,
    )
    shares = [row.right / row.n for row in evaluation.rows]
    tokens = sum(row.tokens for row in evaluation.rows)
    return {"shares": shares, "length": tokens / max(1, len(evaluation.rows) * study.n)}


def study_table(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row an arm: mean over seeds and problems, 95 % interval over problems, each seed, tokens, time, memory."""
    base_shares = figures["untrained"]["shares"]
    rows = [format_runs(name, [figures[name]], base_shares) for name in ("untrained", "mentor")]
    for name, runs in figures["arms"].items():
        rows.append(format_runs(name, runs, base_shares))
    return rows


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, table, chart and finding."""
    rows: list[dict[str, str]] = []
    for row in study_table(figures):
        arm = ARMS.get(row["objective"])
        rows.append({**row, "needs": arm.needs if arm is not None else ""})
    sizes = {name: figures[name] for name in ("train", "test", "n", "seeds")}
    base_shares = figures["untrained"]["shares"]
    dots: list[Dot] = []
    for name, runs in {"mentor": [figures["mentor"]], **figures["arms"]}.items():
        value, low, high = difference_interval(share_differences(runs, base_shares))
        dots.append(Dot(name, 100 * value, 100 * low, 100 * high))
    chart = DotChart("What each objective gains", "points above the untrained student", dots, 0.0)
    return StudyPage(SETUP.format(**sizes), {"Objectives": rows}, chart, describe_finding(dots))


def describe_finding(dots: Sequence[Dot]) -> str:
    """Which objectives gain, and between which of them the intervals decide nothing."""
    mentor, *arms = dots
    gaining = [dot for dot in arms if dot.low > 0]
    best = max(arms, key=attrgetter("value"))
    level = [dot.label for dot in arms if dot.high >= best.low]
    beating = [dot.label for dot in arms if dot.low > mentor.high]
    passing = "no objective is surely above the mentor that it learns from"
    if beating:
        passing = f"above the mentor that they learn from are {', '.join(beating)}"
    return (
        f"{len(gaining)} of {len(arms)} objectives gain; {best.label} gains most ({best.value:+.1f} points, "
        f"[{best.low:+.1f}, {best.high:+.1f}]). The intervals of {', '.join(level)} reach into its own, so their order "
        f"is not decided here, and {passing}. A world of 0.86 million parameters is no evidence for large models: it "
        "shows that every objective trains, and what it needs."
    )


def format_runs(
    name: str, runs: Sequence[Mapping[str, Any]], base_shares: Sequence[float]
) -> dict[str, str]:
    """The row of an arm from its runs, one a seed; the difference pools the seeds of each problem."""
    # The score of each seed, and of each problem the share of all seeds together.
    means: list[float] = []
    for run in runs:
        shares = run["shares"]
        means.append(100 * sum(shares) / len(shares))
    row = {
        "objective": name,
        "avg@n": f"{sum(means) / len(means):.1f}",
        "seeds": ", ".join(f"{mean:.1f}" for mean in means),
        "against untrained": format_points(
            difference_interval(share_differences(runs, base_shares))
        ),
        "tokens an answer": f"{mean_over_runs(runs, 'length'):.0f}",
        "tokens trained on": "",
        "seconds": "",
        "MiB": "",
    }
    if name == "untrained":
        row["against untrained"] = ""
    # The mentor and the untrained student have no figures of a training here.
    was_trained = "tokens" in runs[0]
    if was_trained:
        row["tokens trained on"] = f"{mean_over_runs(runs, 'loss_tokens'):,.0f}"
        row["seconds"] = f"{mean_over_runs(runs, 'seconds'):.0f}"
        row["MiB"] = f"{mean_over_runs(runs, 'peak_mib'):.0f}"
    return row


def share_differences(
    runs: Sequence[Mapping[str, Any]], base_shares: Sequence[float]
) -> list[float]:
    """Each problem's share of right answers, its seeds pooled, less that of the base."""
    differences: list[float] = []
    for place, base_share in enumerate(base_shares):
        pooled_share = sum(run["shares"][place] for run in runs) / len(runs)
        differences.append(pooled_share - base_share)
    return differences


def mean_over_runs(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    """The mean of a figure over the seeds."""
    return float(sum(run[name] for run in runs) / len(runs))


def main() -> None:
    """Train one student in this process: a specification on standard input, a report on standard output."""
    from potstill.training.fit import fit
    from potstill.training.objective_config import ObjectiveConfig

    # What the parent process wrote: rows, paths, settings; paths are texts in JSON.
    specification = json.load(sys.stdin)
    lines = Path(specification["rows"]).read_text("utf-8").splitlines()
    rows = [from_json(line) for line in lines]
    start, out = Path(specification["start"]), Path(specification["out"])
    config = specification["config"]
    if specification["teacher_cache"]:
        teacher = Path(specification["teacher_cache"])
        config["teacher_cache"] = cache_teacher(rows, start, teacher, out.with_suffix(".cache"))
    if config.get("teacher"):
        config["teacher"] = Path(config["teacher"])
    settings = TrainingSettings(**specification["training"])
    report = fit(rows, start, out, settings, config=ObjectiveConfig(**config))
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    document = {
        "tokens": report.tokens,
        "loss_tokens": report.loss_tokens,
        "seconds": report.seconds,
        "steps": report.steps,
        "peak_mib": peak_kib / KIBIBYTE,
        "stats": report.stats,
        "losses": [report.losses[0], report.losses[-1]],
    }
    print(json.dumps(document))


def cache_teacher(rows: Sequence[Trace], start: Path, teacher: Path, folder: Path) -> Path:
    """The mentor's 16 best entries for these rows, stored."""
    from potstill.models.local import checkpoint
    from potstill.training.dataset.chat_template import read_chat_template
    from potstill.training.dataset.tokenize import tokenize_traces
    from potstill.training.teacher import cached_logits

    template = read_chat_template(checkpoint.load_tokenizer(start))
    cached_logits.write(
        folder, teacher, tokenize_traces(rows, template, max_length=1 << 20).rows, k=CACHED_TOP_K
    )
    return folder


if __name__ == "__main__":
    main()

"""Plans or programs: what M plans with T programs each solve at which cost, and what explaining brings beside solving.

On stories the chain of equations stands for the program, and its verifier is free; on program tasks the programs run in
the sandbox, so there are fewer of them. One draw of M0 plans with T0 programs gives every shape up to M0 x T0
(`evaluation/nested.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from potstill.errors import StageError
from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.cost_curves import CostPoint, iso_cost, pareto_front
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import count_by_plan, solve_for_plans
from potstill.evaluation.nested import Shape, measure_shape_cost, usage_amount
from potstill.evaluation.paired import crossed_interval, crossed_share
from potstill.evaluation.results import Results
from potstill.evaluation.table import format_points
from potstill.methods.roles.explain.settings import Settings
from potstill.methods.roles.explain.solving import solve_by_plans
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Model, Sampling
from potstill.records import Progress, blank
from potstill.runs.sources import load_model
from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.studies import arms
from potstill.studies.arms import Figures, RunsByArm, describe_difference, sign
from potstill.studies.chart import LineChart
from potstill.studies.study import StudyPage, StudySettings
from potstill.traces import Session, using
from potstill.traces.usage import Usage
from potstill.world import story

QUESTION = "At equal cost, more plans or more programs of one plan, and what does explaining bring beside solving?"
SIZES: Mapping[str, int] = {
    "train": 150,
    "test": 60,
    "program_train": 100,
    "program_test": 24,
    "plans": 4,
    "programs": 4,
    "steps": 120,
}
ROLES: Mapping[str, str] = {
    "teacher": "world:oracle",
    "student": "world:student",
    "coder": "world:oracle",
    "weak_coder": "world:oracle?slip_rate=0.4",
    "wrong_solver": "world:oracle?slip_rate=1",
}

# The Reasoner learns the one section that carries the plan; the others would cost it tokens and tell the coder nothing.
SECTIONS = ("step_by_step",)
MAX_NEW_TOKENS = 160  # of a plan and of a chain; the longest of the world has about 110
TEMPERATURE = 0.8
TRAINING: Mapping[str, Any] = {"optimizer": "muon", "learning_rate": 1.2e-2, "batch_size": 8}

EXPLAIN, SOLVE, WRONG = "explain", "solve-based", "explain-wrong"
# Chains in the student's own style need a smaller rate than a text that it never wrote: that of the other studies.
SOLVE_SLOWLY, SLOW_RATE = "solve-based-1e-3", 1e-3
EDITORIAL = "zero-shot-editorial"
PLANNERS = ("untrained", "explain", "oracle")
CODERS = ("coder", "weak_coder", "student")

SETUP = """\
Stories of the built-in world: {train} to train on and {test} to test on, {plans} plans with {programs} programs each a
test story. Program tasks: the same stories with a first count that is read from the input, {program_train} and
{program_test}, run in the sandbox. {seeds} seeds, each with training problems of its own. Every trained arm takes
{steps} steps of 8 rows at a rate of 1.2e-2 (Muon), and answers at temperature {temperature}; rows and tokens learnt are
not equal and stand in the tables. The rate and the steps were chosen on {explain}, with which the student must learn
a text it never wrote: about half of its plans should be right, so that there is something to compare. That rate spoils
chains in the student's own style, so {solve} is there a second time at 1e-3, the rate of the other studies. Nothing
else was tuned. The chains of {solve} are in the style that the student was taught, the editorials in one that it never
saw: the world favours solving. The Reasoner learns the section *step by step* alone.

**`world:oracle`, a program, plays the Explainer and the Coder.** Its editorials are right where the solution is, in the
words of one template. As a Coder it carries out the plan that it is shown, right or wrong, and slips in {slip} of its
programs; it never solves the problem by itself. So how far more *programs* can help is set by that rate and not
measured on a model; what is measured is what the Reasoner's plans are worth. In the arm {solve} the student answers
alone, so {explain} has a coder that calculates without error beside it, and the two are no equals. The arm {wrong} has
editorials of programs with one wrong step each, written by the oracle; of the sampled programs every one fails.

Costs are tokens read and written: the student's are tokens of its own, the oracle's are words, about half as many. The
coder's plan-reading counts. Intervals are over problems and seeds.
"""


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Train and measure the arms on stories and on program tasks, then every planner with every coder."""
    stories = arms.run_seeds(
        dataclasses.replace(settings, out=settings.out / "stories"),
        partial(story_recipe, settings),
        progress,
        nested_figures,
    )
    slow = arms.run_seeds(
        dataclasses.replace(settings, out=settings.out / "solving"),
        partial(solving_recipe, settings),
        progress,
        nested_figures,
    )
    stories = place_behind(stories, SOLVE, SOLVE_SLOWLY, slow[SOLVE_SLOWLY])
    tasks = arms.run_seeds(
        dataclasses.replace(settings, out=settings.out / "programs"),
        partial(program_recipe, settings),
        progress,
        nested_figures,
    )
    pairings: dict[str, list[dict[str, Any]]] = {}
    for seed in range(settings.seeds):
        progress("planners and coders", seed, settings.seeds)
        for name, run in measure_pairings(settings, seed).items():
            pairings.setdefault(name, []).append(run)
    progress("planners and coders", settings.seeds, settings.seeds)
    return {
        "stories": stories,
        "programs": tasks,
        "pairings": pairings,
        "seeds": settings.seeds,
        "roles": dict(settings.roles),
        **{f"size_{name}": value for name, value in settings.sizes.items()},
    }


def story_recipe(settings: StudySettings, seed: int) -> dict[str, Any]:
    """Stories: explain, solve-based, and the untrained student as a planner."""
    sizes = settings.sizes
    recipe_arms = {
        EXPLAIN: {"method": "explain"},
        SOLVE: {"method": "explain", "values": {"arm": SOLVE}},
        EDITORIAL: {"method": "explain", "values": {"arm": EDITORIAL}},
    }
    roles = {name: settings.roles[name] for name in ("teacher", "student", "coder")}
    return {
        **shared_recipe(settings, recipe_arms, roles),
        "problems": f"world:story?split=train&seed={seed}&size={sizes['train']}",
        "evaluate": evaluation_settings(settings, f"world:story?split=test&size={sizes['test']}"),
    }


def solving_recipe(settings: StudySettings, seed: int) -> dict[str, Any]:
    """Stories: solve-based at a rate of its own."""
    data = story_recipe(settings, seed)
    slow = {"method": "explain", "values": {"arm": SOLVE}, "training": {"learning_rate": SLOW_RATE}}
    return {**data, "arms": {SOLVE_SLOWLY: slow}}


def place_behind(
    runs_by_arm: Mapping[str, list[dict[str, Any]]],
    before: str,
    name: str,
    runs: list[dict[str, Any]],
) -> dict[str, list[dict[str, Any]]]:
    """The arms with one more behind another."""
    placed: dict[str, list[dict[str, Any]]] = {}
    for arm, arm_runs in runs_by_arm.items():
        placed[arm] = arm_runs
        if arm == before:
            placed[name] = runs
    return placed


def program_recipe(settings: StudySettings, seed: int) -> dict[str, Any]:
    """Program tasks: explain by right programs, and by programs that fail."""
    sizes = settings.sizes
    # An arm's own settings stand in the place of the shared ones, so they say all of them.
    wrong_values = {"settings": {**method_settings(settings), "oracle": "sampled-wrong"}}
    recipe_arms = {
        EXPLAIN: {"method": "explain"},
        WRONG: {"method": "explain", "values": wrong_values},
    }
    roles = {name: settings.roles[name] for name in ("teacher", "student", "coder")}
    roles["solver"] = settings.roles["wrong_solver"]
    tests = f"world:story-code?split=test&size={sizes['program_test']}"
    return {
        **shared_recipe(settings, recipe_arms, roles),
        "problems": f"world:story-code?split=train&seed={seed}&size={sizes['program_train']}",
        "evaluate": evaluation_settings(settings, tests),
    }


def shared_recipe(
    settings: StudySettings, recipe_arms: Mapping[str, Any], roles: Mapping[str, str]
) -> dict[str, Any]:
    """What the recipes on stories and on program tasks share."""
    return {
        "arms": dict(recipe_arms),
        "values": {"settings": method_settings(settings)},
        "training": {**TRAINING, "max_steps": settings.sizes["steps"]},
        "roles": dict(roles),
        "overlap_n": 0,
    }


def method_settings(settings: StudySettings) -> dict[str, Any]:
    """The settings of the method that all arms share."""
    return {"sections": list(SECTIONS), "programs": settings.sizes["programs"]}


def evaluation_settings(settings: StudySettings, problems: str) -> dict[str, Any]:
    """How all arms are measured: plans times programs answers a problem."""
    return {
        "problems": problems,
        "n": settings.sizes["plans"] * settings.sizes["programs"],
        "sampling": {"temperature": TEMPERATURE, "max_new_tokens": MAX_NEW_TOKENS},
    }


def nested_figures(results: Results, arm: str) -> dict[str, Any]:
    """The figures of an arm, with (answers, right answers) of each plan and what a plan and an answer of it cost.

    An arm without a coder has one "plan" a problem that costs nothing: its answers are drawn alone.
    """
    evaluation = results.evaluations[arm]
    figures = arms.arm_figures(results, arm)
    figures["plans"] = [count_by_plan(row) for row in evaluation.rows]
    if any("coder" in row.usage for row in evaluation.rows):
        cost = measure_shape_cost(evaluation, "student", "coder")
        figures["plan_cost"], figures["program_cost"] = cost.plan, cost.program
        return figures
    # Who answers alone: all tokens are those of its answers.
    total = 0.0
    for row in evaluation.rows:
        total += usage_amount(row.usage.get("student", Usage()), "tokens")
    figures["plan_cost"] = 0.0
    figures["program_cost"] = total / sum(row.n for row in evaluation.rows)
    return figures


def measure_pairings(settings: StudySettings, seed: int) -> dict[str, dict[str, Any]]:
    """Every planner with every coder on the test stories, one program of each plan, by "planner x coder"."""
    sizes = settings.sizes
    tests = [blank(p) for p in story.problems("story", size=sizes["test"], split="test")]
    sampling = Sampling(temperature=TEMPERATURE, max_new_tokens=MAX_NEW_TOKENS)
    coder_sampling = (("temperature", TEMPERATURE), ("max_new_tokens", MAX_NEW_TOKENS))
    runs: dict[str, dict[str, Any]] = {}
    # A store of its own: one model plays several parts here, each counted under its own name.
    with (
        Store.open(settings.out / "pairings" / f"seed-{seed}") as store,
        using(Session(verdict_cache=store.verdicts)),
    ):
        # One program of each plan, so that a pairing is right as often as its plans are, slips aside.
        models = load_players(settings, seed, store)
        for planner in PLANNERS:
            for coder in CODERS:
                solver = partial(
                    solve_by_plans,
                    models[planner],
                    models[coder],
                    Settings(programs=1, coder_sampling=coder_sampling),
                    is_trained=planner == EXPLAIN,
                )
                evaluation = evaluate(
                    solver,
                    tests,
                    name=f"{planner} x {coder}",
                    n=sizes["plans"],
                    sampling=sampling,
                    seed=seed,
                    threads=arms.THREADS,
                )
                runs[evaluation.name] = {
                    "problems": [row.problem for row in evaluation.rows],
                    "shares": [row.right / row.n for row in evaluation.rows],
                }
    return runs


def load_players(settings: StudySettings, seed: int, store: Store) -> dict[str, Model]:
    """The planners and coders behind a store, by name; the trained planner is the Reasoner of this seed."""
    folder = settings.out / "stories" / f"seed-{seed}"
    with Store.open(folder) as trained_store:
        stage = trained_store.history.stages(EXPLAIN)[-1].stage
        student = trained_store.students.get(stage)
    if student is None:
        raise StageError(f"{folder} has no student of the arm {EXPLAIN}")
    untrained = load_model(settings.roles["student"], threads=arms.THREADS)
    players: dict[str, Model] = {
        "untrained": untrained,
        EXPLAIN: TransformersModel(student.folder, threads=arms.THREADS),
        "oracle": load_model(settings.roles["teacher"]),
        "coder": load_model(settings.roles["coder"]),
        "weak_coder": load_model(settings.roles["weak_coder"]),
        "student": untrained,
    }
    cached: dict[str, Model] = {}
    for name, model in players.items():
        cached[name] = with_cache(
            model,
            store,
            role=name,
            arm="pairings",
            seed=seed,
            retry_errors=settings.retry_errors,
        )
    return cached


# What the figures say.


def solved_shares(runs: Sequence[Figures], shape: Shape) -> list[list[float]]:
    """By seed and problem the chance that M plans with T programs each solve it."""
    by_seed: list[list[float]] = []
    for run in runs:
        shares: list[float] = []
        for plan_counts in run["plans"]:
            by_plans = solve_for_plans([tuple(counts) for counts in plan_counts], shape.programs)
            shares.append(by_plans[shape.plans - 1])
        by_seed.append(shares)
    return by_seed


def solved(runs: Sequence[Figures], shape: Shape) -> Estimate:
    """solve@(M,T) with its interval over problems and seeds."""
    answers = sum(count for plans in runs[0]["plans"] for count, _ in plans)
    return crossed_share(solved_shares(runs, shape), answers * len(runs))


def shape_difference(runs: Sequence[Figures], shape: Shape, other: Shape) -> Estimate:
    """How much more one shape solves than another, paired by problem and seed; both are levels of the interval."""
    differences: list[list[float]] = []
    for shares, other_shares in zip(
        solved_shares(runs, shape), solved_shares(runs, other), strict=True
    ):
        pairs = zip(shares, other_shares, strict=True)
        differences.append([share - other_share for share, other_share in pairs])
    return crossed_interval(differences)


def shape_cost(runs: Sequence[Figures], shape: Shape) -> float:
    """Tokens of M plans and M T programs, the mean over seeds."""
    plan_cost = arms.mean_figure(runs, "plan_cost")
    program_cost = arms.mean_figure(runs, "program_cost")
    return shape.plans * plan_cost + shape.plans * shape.programs * program_cost


def shapes_of(runs: Sequence[Figures]) -> list[Shape]:
    """Every shape that one draw of an arm estimates."""
    plan_counts = runs[0]["plans"][0]
    most_programs = min(count for count, _ in plan_counts)
    shapes: list[Shape] = []
    for plans in range(1, len(plan_counts) + 1):
        shapes += [Shape(plans, programs) for programs in range(1, most_programs + 1)]
    return shapes


def cost_points(name: str, runs: Sequence[Figures]) -> list[CostPoint]:
    """Every shape of an arm with its cost and what it solves, in percent."""
    points: list[CostPoint] = []
    for shape in shapes_of(runs):
        percent = 100 * solved(runs, shape).value
        label = f"{name} {shape}"
        if arms.mean_figure(runs, "plan_cost") == 0:
            label = f"{name}, {shape.programs} drawn"
        points.append(CostPoint(label, shape_cost(runs, shape), percent))
    return points


def surface_table(runs: Sequence[Figures]) -> list[dict[str, str]]:
    """solve@(M,T) in percent with intervals: a row for each M, a column for each T."""
    rows: dict[int, dict[str, str]] = {}
    for shape in shapes_of(runs):
        row = rows.setdefault(shape.plans, {"plans M": str(shape.plans)})
        row[f"T = {shape.programs}"] = format_percent(solved(runs, shape))
    return list(rows.values())


def budget_table(stories: RunsByArm) -> list[dict[str, str]]:
    """What each budget of the common Pareto front buys, over all arms and shapes."""
    # Arms compete with all their shapes; budgets are where the best of them gets better.
    points: list[CostPoint] = []
    for name, runs in stories.items():
        points += cost_points(name, runs)
    rows: list[dict[str, str]] = []
    for budget in iso_cost(points, [point.cost for point in pareto_front(points)]):
        if budget.best is not None:
            rows.append(
                {
                    "tokens a problem": f"{budget.budget:,.0f}",
                    "best": budget.best.name,
                    "solved": f"{budget.best.value:.1f} %",
                    "affordable": str(budget.affordable),
                }
            )
    return rows


def solve_table(stories: RunsByArm) -> list[dict[str, str]]:
    """solve@1 and solve at the largest shape of each arm, with what they cost."""
    rows: list[dict[str, str]] = []
    for name, runs in stories.items():
        largest = shapes_of(runs)[-1]
        rows.append(
            {
                "arm": name,
                "solve@1": format_percent(solved(runs, Shape(1, 1))),
                "tokens": f"{shape_cost(runs, Shape(1, 1)):,.0f}",
                "all answers": str(largest),
                "solved by one of all": format_percent(solved(runs, largest)),
                "tokens of all": f"{shape_cost(runs, largest):,.0f}",
            }
        )
    return rows


def plan_table(arms_by_place: Mapping[str, Sequence[Figures]]) -> list[dict[str, str]]:
    """How the plans of a problem differ: in how many problems all, some or none of them lead to a right program."""
    rows: list[dict[str, str]] = []
    for place, runs in arms_by_place.items():
        all_lead = some_lead = problem_count = plan_count = always_right = 0
        for run in runs:
            for plan_counts in run["plans"]:
                leading = sum(right > 0 for _, right in plan_counts)
                all_lead += leading == len(plan_counts)
                some_lead += 0 < leading < len(plan_counts)
                always_right += sum(right == count for count, right in plan_counts)
                problem_count += 1
                plan_count += len(plan_counts)
        rows.append(
            {
                "problems": place,
                "all plans lead to a right program": f"{100 * all_lead / problem_count:.0f} %",
                "some do": f"{100 * some_lead / problem_count:.0f} %",
                "none does": f"{100 * (problem_count - all_lead - some_lead) / problem_count:.0f} %",
                "plans all of whose programs are right": f"{100 * always_right / plan_count:.0f} %",
            }
        )
    return rows


def pairing_table(pairings: RunsByArm) -> list[dict[str, str]]:
    """Who plans x who carries out, with both losses: against the oracle's plans, and of those against 1."""
    rows: list[dict[str, str]] = []
    for name, runs in pairings.items():
        planner, _, coder = name.partition(" x ")
        bound = pairings[f"oracle x {coder}"]
        row = {"planner": planner, "coder": coder, "right": f"{arms.score(runs):.1f} %"}
        row["planning loss"] = row["carrying-out loss"] = ""
        if planner != "oracle":
            row["planning loss"] = format_points(arms.difference(bound, runs))
            row["carrying-out loss"] = f"{100 - arms.score(bound):.1f}"
        rows.append(row)
    return rows


def format_percent(estimate: Estimate) -> str:
    """A share as percent with its interval."""
    value, low, high = (100 * end for end in estimate)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def trade_off_chart(stories: RunsByArm) -> LineChart:
    """What is solved against tokens: more plans, more programs, both, and the arms beside them."""
    # Three ways through the surface, and the arms whose answers are single draws.
    runs = stories[EXPLAIN]
    shapes = shapes_of(runs)
    curves = {
        "explain, more plans": (runs, [shape for shape in shapes if shape.programs == 1]),
        "explain, more programs": (runs, [shape for shape in shapes if shape.plans == 1]),
        "explain, as many of both": (runs, [s for s in shapes if s.plans == s.programs]),
        f"{SOLVE_SLOWLY}, more chains": (
            stories[SOLVE_SLOWLY],
            shapes_of(stories[SOLVE_SLOWLY]),
        ),
        "untrained, more chains": (stories[arms.UNTRAINED], shapes_of(stories[arms.UNTRAINED])),
    }
    series: dict[str, list[tuple[float, float]]] = {}
    for name, (arm_runs, arm_shapes) in curves.items():
        points: list[tuple[float, float]] = []
        for shape in arm_shapes:
            points.append((shape_cost(arm_runs, shape), 100 * solved(arm_runs, shape).value))
        series[name] = points
    return LineChart(
        title="Solved against tokens, on stories",
        x_axis="tokens a problem (the oracle's are words)",
        y_axis="problems solved, %",
        series=series,
        log_x=True,
    )


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, tables, chart, and what came out."""
    stories, tasks, pairings = figures["stories"], figures["programs"], figures["pairings"]
    sizes = {name: figures[f"size_{name}"] for name in SIZES}
    setup = SETUP.format(
        **sizes,
        seeds=figures["seeds"],
        temperature=TEMPERATURE,
        slip=slip_share(figures["roles"]["coder"]),
        explain=f"`{EXPLAIN}`",
        solve=f"`{SOLVE}`",
        wrong=f"`{WRONG}`",
    )
    tables = {
        "Arms on stories": arms.arms_table(stories),
        "One answer and all answers, on stories": solve_table(stories),
        "solve@(M,T) of explain on stories, %": surface_table(stories[EXPLAIN]),
        "solve@(M,T) of explain on program tasks, %": surface_table(tasks[EXPLAIN]),
        "How the plans of a problem differ, under explain": plan_table(
            {"stories": stories[EXPLAIN], "program tasks": tasks[EXPLAIN]}
        ),
        "What a budget buys, on stories": budget_table(stories),
        "Who plans and who carries out, on stories": pairing_table(pairings),
        "Arms on program tasks": arms.arms_table(tasks),
    }
    return StudyPage(setup, tables, trade_off_chart(stories), describe_finding(figures))


def slip_share(coder: str) -> str:
    """How often a coder of the world slips, as its spec says."""
    rate = getattr(load_model(coder), "slip_rate", None) if coder.startswith("world:") else None
    return "an unknown share" if rate is None else f"{100 * rate:.0f} %"


def describe_finding(figures: Mapping[str, Any]) -> str:
    """One paragraph, chosen from the figures by their intervals."""
    stories, tasks, pairings = figures["stories"], figures["programs"], figures["pairings"]
    most = min(figures["size_plans"], figures["size_programs"])
    sentences: list[str] = []
    for where, runs in (("stories", stories[EXPLAIN]), ("program tasks", tasks[EXPLAIN])):
        lead = shape_difference(runs, Shape(most, 1), Shape(1, most))
        sentences.append(describe_shapes(where, most, lead))
    more_cost = shape_cost(stories[EXPLAIN], Shape(most, 1))
    fewer_cost = shape_cost(stories[EXPLAIN], Shape(1, most))
    sentences.append(
        f"They are not equally dear: {most} plans take {more_cost:,.0f} tokens a story, one plan {fewer_cost:,.0f}."
    )
    # Which rate is the better one is chosen on the test stories, in favour of the control.
    solver = max((SOLVE, SOLVE_SLOWLY), key=lambda arm: arms.score(stories[arm]))
    lead = arms.difference(stories[EXPLAIN], stories[solver])
    sentences.append(describe_difference("Explain, with the oracle as its coder,", solver, lead))
    sentences.append(describe_budget(stories, more_cost))
    bound = pairings["oracle x coder"]
    losses = arms.difference(bound, pairings["explain x coder"])
    sentences.append(
        f"With plans that are always right this coder is right in {arms.score(bound):.1f} %; the Reasoner's plans cost "
        f"{format_points(losses)} points of that."
    )
    lead = arms.difference(tasks[EXPLAIN], tasks[WRONG])
    sentences.append(
        describe_difference("On program tasks, explain", "explain from solutions that fail", lead)
    )
    sentences.append(
        "The coder is a program whose slips are set: in this world more programs of a plan can mend those slips alone. "
        "A small built-in world is no evidence for large models."
    )
    return " ".join(sentences)


def describe_budget(stories: RunsByArm, budget: float) -> str:
    """What the cost of explain's most plans buys best, over all arms and shapes."""
    points: list[CostPoint] = []
    for name, runs in stories.items():
        points += cost_points(name, runs)
    [row] = iso_cost(points, [budget])
    assert row.best is not None  # the budget is the cost of one of the points
    return f"For those {budget:,.0f} tokens a story {row.best.name} solves most ({row.best.value:.1f} %)."


def describe_shapes(where: str, most: int, lead: Estimate) -> str:
    """Which of the two shapes with as many programs solves more."""
    points = f"{format_points(lead)} points"
    outcomes = {
        "above": f"{most} plans with one program each solve more than one plan with {most}",
        "below": f"one plan with {most} programs solves more than {most} plans with one each",
        "undecided": f"{most} plans with one program and one plan with {most} are not shown to differ",
    }
    return f"On {where} {outcomes[sign(lead)]} ({points})."

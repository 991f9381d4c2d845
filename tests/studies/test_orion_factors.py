"""orion-factors: what its page says of made-up figures; the study itself in small is slow."""

from __future__ import annotations

import pytest

from potstill.methods.errors.orion.settings import Settings
from potstill.records import no_progress
from potstill.studies import orion_factors
from potstill.studies.orion_factor_page import fisher_interval, gap, pearson, read_level
from potstill.studies.orion_factors import FACTORS, SETTINGS, SIZES, describe_level, describe_study
from potstill.studies.page import write_page
from potstill.studies.study import StudySettings

PROBLEMS = [f"p{number}" for number in range(40)]
LEVEL = {"label": "a level", "setting": "", "own": "own", "none": "none"}


def arm_runs(right: int, rows: int = 40, passing: int = 30) -> list[dict]:
    """An arm that answers the first so many problems right, with each of three seeds."""
    shares = [float(number < right) for number in range(len(PROBLEMS))]
    run = {"problems": PROBLEMS, "shares": shares, "rows": rows, "passing": [passing, 60]}
    return [run] * 3


def figures(changed: dict | None = None) -> dict:
    """Figures of all arms at 20 of 40, but for those that are given by (setting, arm)."""
    settings: dict = {}
    factors: dict = {}
    for factor, levels in FACTORS.items():
        factors[factor] = [describe_level(level) for level in levels]
        for level in factors[factor]:
            runs = settings.setdefault(level["setting"], {})
            for arm in ("untrained", "sft", level["own"], level["none"]):
                runs[arm] = arm_runs(20)
    for (setting, arm), runs in (changed or {}).items():
        settings[setting][arm] = runs
    return {"settings": settings, "factors": factors, "seeds": 3, **SIZES}


def test_without_differences_no_factor_is_said_to_matter():
    page = describe_study(figures())
    assert "better than those made without in 0, worse in 0, and neither in 13" in page.finding
    assert "No factor is shown to change what errors do." in page.finding
    assert all("No other level is shown to differ" in page.sections[factor] for factor in FACTORS)


@pytest.mark.parametrize(
    ("right", "words", "change"),
    [
        (
            8,
            "seeing errors costs 30.0 [",
            "errors do worse than at *its own problems (4 to 8 events)*",
        ),
        (34, "seeing errors gains 35.0 [", "errors do better than at"),
    ],
)
def test_a_level_says_what_errors_do_and_whether_it_differs_from_the_first(right, words, change):
    page = describe_study(figures({("hard", "own"): arm_runs(right)}))
    text = page.sections["Student's strength"]
    assert words in text and f"At *harder problems (8 to 10 events)* {change}" in text
    assert (
        "1 of the 11 changes" in page.finding
        and "student's strength: harder problems" in page.finding
    )


def test_levels_are_paired_by_problem_and_only_where_problems_are_the_same():
    # Errors gain on the same 28 of 40 problems at both levels: paired, there is no spread between them.
    own, none = arm_runs(30), arm_runs(2)
    level = read_level({"": {"own": own, "none": none, "sft": own, "untrained": none}}, LEVEL)
    assert gap(level, level).value == 0
    others = [{**run, "problems": [f"q{name}" for name in PROBLEMS]} for run in own]
    unpaired = gap(level._replace(with_errors=others), level)
    assert gap(level, level).half < unpaired.half
    assert unpaired.value == 0 and unpaired.half == pytest.approx(level.lead.half * 2**0.5)


def test_unequal_rows_are_named():
    page = describe_study(figures({("hard", "own"): arm_runs(20, rows=30)}))
    text = page.sections["Student's strength"]
    assert "unequal rows: harder problems (8 to 10 events)." in text
    assert (
        page.tables["Figures: student's strength"][1]["rows (sft, without, with)"] == "40, 40, 30"
    )


def test_levels_that_are_not_measured_yet_are_named(tmp_path):
    data = figures()
    data["settings"]["hard"] = {}
    page = describe_study(data)
    assert (
        "harder problems (8 to 10 events).* Not measured yet: " in list(page.sections.values())[-1]
    )
    assert [row["seeds"] for row in page.tables["Figures: student's strength"]] == ["3", "3", "3"]
    empty = {**data, "settings": {name: {} for name in SETTINGS}}
    page = describe_study(empty)
    assert page.finding == "Nothing has been measured yet."
    write_page(tmp_path, "empty", page, question="Q?", fingerprint={}, command="potstill")


def test_how_well_it_rewrites_is_set_beside_what_errors_do():
    changed = {
        ("hard", "own"): arm_runs(8, passing=6),
        ("brief teacher", "own"): arm_runs(14, passing=18),
        ("warmed longer", "own"): arm_runs(26, passing=45),
        ("warmed", "own"): arm_runs(30, passing=54),
    }
    text = describe_study(figures(changed)).sections["How well it rewrites"]
    assert "runs from 10 to 90 %" in text and "from -30.0 to +25.0 points" in text
    assert "costs less where the student rewrites better" in text
    weak = {("hard", "own"): arm_runs(19, passing=6), ("warmed", "own"): arm_runs(19, passing=54)}
    text = describe_study(figures(weak)).sections["How well it rewrites"]
    assert "so that no relation is shown" in text
    # By hand: artanh(0.33) = 0.3428, 1.9600 / sqrt(10) = 0.6198, tanh(-0.2770) and tanh(0.9626).
    assert fisher_interval(0.33, 13) == pytest.approx((-0.2701, 0.7454), abs=2e-4)
    assert fisher_interval(1.0, 13) == fisher_interval(0.5, 3) == (-1.0, 1.0)
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1) and pearson([1, 1], [0, 2]) == 0


def test_a_section_has_its_figure_in_a_file_of_its_own(tmp_path):
    page = describe_study(figures())
    markdown, _ = write_page(
        tmp_path, "orion-factors", page, question="Q?", fingerprint={}, command="potstill"
    )
    named = set(page.charts)
    assert named == {*FACTORS, "How well it rewrites"}
    assert "(orion-factors-student-s-strength.svg)" in markdown.read_text("utf-8")
    assert len(list(tmp_path.glob("orion-factors-*.svg"))) == len(named)


def test_levels_name_settings_and_values_that_are_there():
    settings = StudySettings(out=None, sizes=dict(SIZES), roles=dict(orion_factors.ROLES))  # type: ignore[arg-type]
    names = set()
    for levels in FACTORS.values():
        for level in levels:
            assert level.setting in SETTINGS
            Settings(**level.with_errors.get("settings", {}))
            names.add((level.setting, *list(describe_level(level).values())[2:]))
    # The recipe of a setting has both arms of each of its levels.
    recipe = orion_factors.recipe_of_setting(settings, "base", 0)
    wanted = {arm for setting, own, none in names if setting == "base" for arm in (own, none)}
    assert set(recipe["arms"]) == {"sft", *wanted}
    assert recipe["arms"]["own steps False"]["values"]["steps"] is False
    prompts = {
        name: arm["values"].get("settings", {}).get("prompt")
        for name, arm in recipe["arms"].items()
    }
    assert prompts["own"] == prompts["none"] == prompts["own steps False"] == "paper"
    assert prompts["own prompt errors-first"] == "errors-first"


@pytest.mark.slow
@pytest.mark.long
def test_the_study_in_small(tmp_path):
    small = dict.fromkeys(SIZES, 2) | {"train": 10, "rows": 6, "test": 3, "n": 1, "samples": 3}
    settings = StudySettings(tmp_path, 1, {**SIZES, **small}, dict(orion_factors.ROLES))
    outcome = orion_factors.run_study(settings, no_progress)
    page = describe_study(outcome)
    assert outcome == orion_factors.collect_figures(settings)
    assert len(page.tables) == len(FACTORS)
    assert outcome == orion_factors.run_study(settings, no_progress)

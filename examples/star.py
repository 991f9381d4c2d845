"""A method of one's own in one file: STaR, a student that learns from its own right answers, round after round.

potstill check examples/star.py:star
potstill run examples/star.py:star --problems 'world:story?size=40' --student world:student
python examples/star.py
"""

from collections.abc import Generator

import potstill as ps

PROBLEMS, STEPS = 40, 5


def star(
    problems: list[ps.Trace], student: ps.Trainable, *, n: int = 4, rounds: int = 2
) -> Generator[ps.Stage, ps.Trainable, None]:
    """Learn from one's own right answers, several times (STaR, Zelikman et al., arXiv:2203.14465).

    Departure: no rationalisation; a problem that is never solved is never learnt.

    Args:
        n: answers a problem and round.
        rounds: how often the student is trained; each time from the model it began as, as in the paper.
    """
    base = student
    for _ in range(rounds):
        answers = ps.verify(ps.sample(student, problems, n=n, temperature=0.8))
        student = yield ps.Stage(base, ps.keep(ps.right, answers), "sft")


def main() -> None:
    run = ps.run(
        f"{__file__}:star",
        ps.load_problems(f"world:story?size={PROBLEMS}"),
        student="world:student",
        evaluate=ps.load_problems("world:story?split=test&size=20"),
        eval_n=2,
        out="runs/star",
        training={"learning_rate": 1e-3, "max_steps": STEPS},
    )
    print(run.table())


if __name__ == "__main__":
    main()

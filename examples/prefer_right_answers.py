"""Pairs of a right and a wrong answer of the student itself, and DPO on them.

python examples/prefer_right_answers.py
"""

import potstill as ps

PROBLEMS, STEPS = 40, 5


def main() -> None:
    problems = ps.load_problems(f"world:story?size={PROBLEMS}")
    student = ps.load_model("world:student")

    with ps.open_folder("runs/preferences"):
        answers = ps.verify(ps.sample(student, problems, n=4, temperature=0.8))
        pairs = ps.pair(ps.keep(ps.right, answers), ps.keep(ps.wrong, answers))
        print(f"{len(pairs)} problems have a right and a wrong answer")
        trained = ps.train(
            student, pairs, objective="dpo", beta=0.1, learning_rate=1e-4, max_steps=STEPS
        )
        print(trained)


if __name__ == "__main__":
    main()

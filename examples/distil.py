"""Distil a teacher into a student: sample, keep what is right, train, measure what was gained.

    python examples/distil.py

The built-in world stands in for a real teacher and student; `ps.load_model("openai:NAME?at=deepseek")` and
`ps.load_model("transformers:PATH")` take their places.
"""

import potstill as ps

PROBLEMS, TEST_PROBLEMS, STEPS = 40, 20, 10


def main() -> None:
    train = ps.load_problems(f"world:story?size={PROBLEMS}")
    test = ps.load_problems(f"world:story?split=test&size={TEST_PROBLEMS}")
    teacher = ps.load_model("world:teacher")
    student = ps.load_model("world:student")

    # Run the script again: everything is found in the folder, no model is asked and nothing is trained.
    with ps.open_folder("runs/distil", budget="2Mtok") as session:
        chains = ps.keep(ps.right, ps.verify(ps.sample(teacher, train, temperature=0.6)))
        print(chains)
        trained = ps.train(student, chains, objective="sft", learning_rate=1e-3, max_steps=STEPS)
        before = ps.evaluate(student, test, n=2, name="untrained")
        after = ps.evaluate(trained, test, n=2, name="trained")
        print(ps.compare(after, before))
        print(session.spent())


if __name__ == "__main__":
    main()

"""A verifier of one's own: answers are temperatures, and 20 °C is 68 °F.

    python examples/own_verifier.py

An installed package brings a verifier as an entry point of the group `potstill.verifiers`; within one program, judging
is a function of the text, and `ps.edit` or `ps.score` take it as it is.
"""

import re

import potstill as ps

CELSIUS = re.compile(r"(-?\d+(?:\.\d+)?) ?°C")
FAHRENHEIT = re.compile(r"(-?\d+(?:\.\d+)?) ?°F")


def celsius(text: str) -> float | None:
    """The last temperature of a text in °C; None where there is none."""
    found = [float(match) for match in CELSIUS.findall(text)]
    found += [(float(match) - 32) / 1.8 for match in FAHRENHEIT.findall(text)]
    return found[-1] if found else None


def closeness(traces: list[ps.Trace]) -> list[float | None]:
    """For each trace, how far its temperature is from the gold one, as a score between 0 and 1."""
    scores: list[float | None] = []
    for trace in traces:
        answer, gold = celsius(trace.text), celsius(trace.problem.answer or "")
        if answer is None or gold is None:
            scores.append(None)
        else:
            scores.append(max(0.0, 1.0 - abs(answer - gold) / 10))
    return scores


def is_close(trace: ps.Trace) -> bool:
    """Whether an answer is within a degree."""
    score = trace.scores.get("closeness")
    return isinstance(score, float) and score >= 0.9


def main() -> None:
    problem = ps.Problem("p1", "How warm is a room?", "20 °C", kind="exact")
    answers = [
        ps.Trace(problem, problem.question, text)
        for text in ("It is 68 °F.", "About 25 °C.", "Warm.")
    ]
    scored = ps.score("closeness", closeness, answers)
    print([trace.scores["closeness"] for trace in scored])
    print(ps.keep(is_close, scored)[0].text)


if __name__ == "__main__":
    main()

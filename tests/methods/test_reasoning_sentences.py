"""The sentences of a chain: formulas stay whole, with the sentence before them."""

from __future__ import annotations

from dataclasses import replace

from scripted_world import number

from potstill.methods.reasoning_sentences import reasoning_units, step_starts
from potstill.traces import segment


def sentences(text):
    [trace] = segment(step_starts, [replace(number("p", "q", "24"), text=text)])
    assert "".join(trace.units) == text
    return [text[unit.start : unit.stop].strip() for unit in reasoning_units(trace)]


def test_a_formula_goes_with_the_sentence_that_leads_to_it():
    text = "We get:\n\n\\[\n4! = 24\n= 4 \\cdot 6\n\\]\n\nSo 4! = 24.\nIt is \\boxed{24}."
    assert sentences(text) == ["We get:\n\n\\[\n4! = 24\n= 4 \\cdot 6\n\\]", "So 4! = 24."]
    text = "Hence\n$$x\n= 2$$\nand then\n\\begin{align*}\ny\n\\end{align*}\ndone.\n\\boxed{24}"
    assert len(sentences(text)) == 3


def test_a_thought_is_the_reasoning_where_there_is_one():
    assert sentences("<think>\nOne. Two!\n</think>\nThree. \\boxed{24}") == ["One.", "Two!"]
    assert sentences("\\boxed{24}") == []

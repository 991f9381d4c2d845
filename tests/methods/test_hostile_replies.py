"""Replies are read in no time, whatever they are made of: what a reader costs grows with their length alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_world import number

from potstill.methods.chains.long_cot import read_outline
from potstill.methods.judges.natural_program.statements import read_statements
from potstill.methods.judges.table_critic.table_critic import conclusion_of
from potstill.methods.judges.temporal_consistency import read_location
from potstill.methods.paragraphs import split_paragraphs
from potstill.methods.reasoning_sentences import step_starts
from potstill.methods.rewriting.cot_bridge import read_missing_steps
from potstill.methods.rewriting.dap import level_of
from potstill.methods.rewriting.dlcot import structure
from potstill.methods.rewriting.pir import read_kinds
from potstill.methods.roles._demonstrations import is_same_output, read_demonstrations
from potstill.methods.roles.socratic_cot import read_parts, read_questions
from potstill.methods.testtime.chain_of_logic import resolve_expression
from potstill.methods.testtime.cop import read_map
from potstill.methods.testtime.discriminator import read_verdict
from potstill.methods.testtime.faithful.format import close_inference, close_selection
from potstill.methods.testtime.subthoughts import cut_before_markers

ASKED = number("p", "q", "1")
READERS = {
    "sentences": step_starts,
    "missing steps": lambda text: read_missing_steps(text, 3),
    "headings": structure.read_headed,
    "labels": lambda text: structure.read_labels(text, 2),
    "clusters": lambda text: structure.read_clusters(text, 2),
    "completion": lambda text: structure.read_completion(text, 2),
    "outline": read_outline,
    "kinds": read_kinds,
    "statements": read_statements,
    "paragraphs": split_paragraphs,
    "conclusion": conclusion_of,
    "first wrong paragraph": lambda text: read_location(text, 9),
    "questions and answers": read_parts,
    "questions": read_questions,
    "demonstrations": read_demonstrations,
    "outputs": lambda text: is_same_output(text, "[1]"),
    "verdict": read_verdict,
    "expression": resolve_expression,
    "map": lambda text: read_map(text, 9),
    "selection": lambda text: close_selection(replace(ASKED, text=text)),
    "inference": lambda text: close_inference(replace(ASKED, text=text)),
    "markers": lambda text: cut_before_markers(9, replace(ASKED, text=text), is_blank=True),
    "level": lambda text: level_of(replace(ASKED, text=text)),
}
HOSTILE = (
    "\n",
    " ",
    "# ",
    "- ",
    "\n- ",
    "\n#1. (by #1) ",
    "a.\n\n",
    "9",
    "\\[",
    "$$ ",
    "\\begin{a}",
    "* ",
    "Question 1:\nAnswer 1: ",
    "Input: [",
    '{"correct": ',
    "Expression: not (",
    "Q <- S1, ",
    "\nsent 1. We know that sent 1 and ",
    "sent 1. Therefore, a\n",
    "So. ",
)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_a_reply_of_one_thing_over_and_over_is_read(reader):
    for piece in HOSTILE:
        READERS[reader](piece * 20_000)
        READERS[reader](f"Missing Step 1:\nSolution 1: Correct\ncluster1 [{piece * 20_000}")

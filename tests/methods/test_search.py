"""A newcomer's question finds the method to try among the first three that are shown."""

from __future__ import annotations

import pytest

from potstill.methods import METHODS
from potstill.methods.goals import GOALS
from potstill.methods.listing import list_families, list_methods
from potstill.methods.search import read_terms, search_methods, stem, synonyms_of

# Each with the methods that answer it; the search was improved on these.
QUESTIONS = {
    "shorter chains without losing accuracy": {"shorterbetter", "fs_bon", "retro_search", "dap", "pir", "dlcot"},
    "I have no gold answers": {"elad", "synthetic_cot", "temporal_consistency", "qcrd"},
    "learn from the student's own mistakes": {"orion", "lema", "supercorrect", "tailored", "fair"},
    "my teacher has another tokenizer": {"uld", "cot2align"},
    "I have only the student and no teacher": {"rft", "fs_bon", "sft_gold", "dpo_st"},
    "the teacher's chains are too hard for my small model": {"mix_distillation", "p_align"},
    "reinforcement learning with a verifier": {"deepseek_r1", "acereason", "shorterbetter", "alphamed"},
    "teacher calls are expensive, which problems should I annotate?": {"elad"},
    "programs that are run to check the answer": {"pad"},
    "I can read the teacher's logits": {"gkd", "distillm", "taid", "kdrl", "skd"},
}  # fmt: skip
# Written before the search was, and looked at when it was finished: `LEAST_HITS` of them were found.
UNSEEN_QUESTIONS = {
    "make answers without reasoning, as fast as possible": {"system2", "dualformer", "autothink"},
    "split a question into smaller questions": {"socratic_cot", "divide_or_conquer"},
    "pick the best of several teachers": {"source_choice", "fair"},
    "questions in my dataset are broken": {"mathq_verify"},
    "improve quality at test time without training": {"subthoughts"},
    "open-ended writing, no right answer to check": {"reer", "nover"},
    "preference pairs of good and bad chains (DPO)": {"dpo_st", "redi", "supercorrect", "qcrd", "flow_dpo"},
    "the model overthinks easy questions": {"autothink", "shorterbetter", "dap", "omnithought"},
    "answer questions about long documents": {"llmquoter"},
    "chains skip steps": {"cot_bridge"},
}  # fmt: skip
LEAST_HITS = 10


def find(question: str) -> list[str]:
    result = search_methods(list_methods().values(), question, list_families())
    return [method.name for method in result.methods]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_finds_its_method_among_the_first_three(question):
    assert QUESTIONS[question] & set(find(question)[:3]), find(question)


def test_questions_that_it_was_not_made_for_find_theirs_too():
    hits = [
        question for question, names in UNSEEN_QUESTIONS.items() if names & set(find(question)[:3])
    ]
    assert len(hits) >= LEAST_HITS, set(UNSEEN_QUESTIONS) - set(hits)


def test_a_paper_is_found_by_its_number_a_title_its_authors_and_a_method_by_its_name():
    assert find("2505.22131")[0] in ("orion", "euler")  # two versions of one paper
    assert (
        find("Prioritize small models struggle to learn from strong reasoners")[0]
        == "mix_distillation"
    )
    assert find("Chenghao Luo deconstructing long chain-of-thought")[0] == "dlcot"
    assert find("p-align")[0] == find("p_align")[0] == "p_align"


def test_what_is_not_there_is_no_match_for_what_is():
    assert read_terms("no gold answers, but a teacher") == ["no:gold", "no:answ", "teach"]
    assert "no:label" in synonyms_of("no:gold") and "label" not in synonyms_of("no:gold")


def test_an_empty_question_lists_all_and_an_unknown_word_is_said():
    assert find(" ") == list(METHODS)
    result = search_methods(list_methods().values(), "quantum chains", list_families())
    assert result.unknown_words == ["quantum"] and result.matches
    assert not find("quantum")


@pytest.mark.parametrize(
    "words",
    ["short shorter shortest", "verify verified verifier", "teach teacher teachers", "loss"],
)
def test_words_are_compared_by_their_stems(words):
    [_] = {stem(word) for word in words.split()}


def test_the_guide_names_methods_that_are_there_three_at_most():
    for goal in GOALS:
        assert set(goal.methods) <= set(METHODS) and 1 <= len(goal.methods) <= 3, goal
    assert len({goal.situation for goal in GOALS}) == len(GOALS)

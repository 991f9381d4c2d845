"""What a newcomer has, and what goes wrong: the rows of docs/methods.md, each with the methods to try first.

The page is written from them, and `potstill methods --search` finds the methods of a row by the row's words.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["have", "problem"]


class Goal(NamedTuple):
    """A row of the guide.

    Args:
        kind: whether it is what somebody has, or what goes wrong.
        situation: in a newcomer's words.
        methods: to try first, the first one first; three at most.
        reason: why these, in a sentence.
        words: others for the same situation, for the search alone.
    """

    kind: Kind
    situation: str
    methods: tuple[str, ...]
    reason: str
    words: str = ""


GOALS = (
    # What somebody has. First who can be asked, then what is known of the problems.
    Goal(
        "have",
        "a teacher behind an API: its texts",
        ("sft", "orion", "redi"),
        "The teacher's right chains as they are, then rewritten by the student, then its wrong chains as well.",
        "closed proprietary black-box openai server",
    ),
    Goal(
        "have",
        "texts of a teacher that were recorded, and no more calls to it",
        ("sft", "p_align", "dualformer"),
        "One text a problem (`recorded:FILE`) is learnt as it is, continued by the student, or with parts dropped.",
        "data set offline stored existing traces",
    ),
    Goal(
        "have",
        "a teacher's weights: its logits",
        ("gkd", "distillm", "taid"),
        "The whole next-token distribution is learnt, on given texts and on the student's own; one tokenizer for both.",
        "white-box distribution probabilities soft labels local open weights",
    ),
    Goal(
        "have",
        "a teacher's weights with another tokenizer",
        ("uld", "cot2align", "mentor_kd"),
        "Sorted or transported distributions need no common vocabulary; or a mentor with the student's tokenizer "
        "stands between the two.",
        "different vocabulary cross-tokenizer logits",
    ),
    Goal(
        "have",
        "several teachers",
        ("source_choice", "mix_distillation", "fair"),
        "Which one to learn from, how to mix a strong one with an easier one, or how to let them review each other.",
        "multiple ensemble sources",
    ),
    Goal(
        "have",
        "only the student, and gold answers",
        ("rft", "fs_bon", "alphamed"),
        "It learns its own right samples, the shortest of them, or by reinforcement whatever it writes.",
        "no teacher, self-training bootstrapping",
    ),
    Goal(
        "have",
        "only the student, and no gold answers",
        ("system2", "subthoughts"),
        "What most of its samples agree on is taken for right: learnt, or voted on at test time.",
        "no teacher, no labels, unsupervised majority vote self-consistency",
    ),
    Goal(
        "have",
        "a teacher, and no gold answers",
        ("synthetic_cot", "elad", "temporal_consistency"),
        "The teacher's chains unchecked, its corrections of the student's steps, or chains in which it finds no error.",
        "without labels, unlabelled problems, which ones to annotate, annotation, active learning",
    ),
    Goal(
        "have",
        "solutions written by people",
        ("sft_gold", "cot_bridge", "reer"),
        "They are learnt as they are, with the steps put in that they leap over, or behind a thought that leads there.",
        "textbook human solutions no teacher",
    ),
    Goal(
        "have",
        "programming problems with tests",
        ("opencodereasoning", "explain", "acereason"),
        "Programs with their reasoning, plans that a coder carries out, or rewards for tests that pass.",
        "code unit tests competitive programming contest",
    ),
    Goal(
        "have",
        "little money for the teacher",
        ("rft", "still2", "r3v"),
        "No call at all; or one a problem, and then rounds of the student's own texts.",
        "expensive cheap budget cost few calls",
    ),
    Goal(
        "have",
        "wrong texts beside right ones",
        ("redi", "dpo_st", "qcrd"),
        "Right is preferred to wrong: the teacher's pairs, the student's own, or agreeing against disagreeing ones.",
        "preference pairs dpo negative samples contrast bad",
    ),
    Goal(
        "have",
        "questions with a long context",
        ("llmquoter", "cop"),
        "It learns to quote what bears on the question; or a map of the statements decides which of them it is asked.",
        "documents passages retrieval rag",
    ),
    Goal(
        "have",
        "questions about tables",
        ("sparks", "table_critic"),
        "It writes queries, rewarded by what they return; or a critic mends the teacher's chains.",
        "tabular sql database spreadsheet",
    ),
    Goal(
        "have",
        "few problems",
        ("puzzle_warm_up", "irac"),
        "A warm-up on puzzles, whose calls do not grow with the problems; or a few explanations in named parts.",
        "little small data low-resource hundred examples",
    ),
    Goal(
        "have",
        "answers that no program can check",
        ("reer", "nover"),
        "How likely the reasoning makes a good answer takes the place of a verdict.",
        "open-ended writing essays creative no verifier",
    ),
    # What goes wrong. First with the texts that are learnt, then with what the student makes of them.
    Goal(
        "problem",
        "the teacher's style is far from the student's: sft makes it worse",
        ("rft", "orion", "p_align"),
        "The target is written by the student: alone, in view of the teacher's chain, or behind its beginning.",
        "foreign style mismatch imitation hurts own words drop after fine-tuning",
    ),
    Goal(
        "problem",
        "the chains are too long",
        ("shorterbetter", "fs_bon", "dap"),
        "Rewarded for the length of its shortest right text, trained on its shortest right sample, or on chains that "
        "the teacher shortened to the problem's difficulty.",
        "shorter concise overthinking redundant tokens length verbose pruning brief",
    ),
    Goal(
        "problem",
        "the answer is wanted at once",
        ("system2", "dualformer", "autothink"),
        "The reasoning is compiled into the answer, dropped at random, or only written where it pays.",
        "without reasoning direct fast immediate latency when to think switch easy questions",
    ),
    Goal(
        "problem",
        "the chains are too hard for so small a student",
        ("mix_distillation", "p_align", "mentor_kd"),
        "Mostly easier chains, no more of the teacher's than is needed, or a mentor of a size between the two.",
        "capacity gap small too strong learnability difficult struggle",
    ),
    Goal(
        "problem",
        "right answers behind wrong steps",
        ("temporal_consistency", "fair", "pad"),
        "A model looks for errors again and again, other teachers review the chain, or it is a program that is run.",
        "flawed unfaithful hallucinated reasoning process judge",
    ),
    Goal(
        "problem",
        "the chains leap over steps",
        ("cot_bridge",),
        "A bridger puts in what is missing.",
        "skip omit gaps missing incomplete",
    ),
    Goal(
        "problem",
        "the judge is biased",
        ("rbd", "discriminator"),
        "A detector learns to find the biased choices of an evaluator; or a judge reasons about each candidate first.",
        "llm-as-a-judge evaluator bias trust position verbosity",
    ),
    Goal(
        "problem",
        "the questions are faulty",
        ("mathq_verify",),
        "A question is checked in five respects before a teacher is asked.",
        "invalid broken unanswerable noisy data ill-posed",
    ),
    Goal(
        "problem",
        "too many rows, of uneven worth",
        ("deepdistill", "omnithought", "source_choice"),
        "Chosen by how often they are solved, by verbosity against difficulty, or by source.",
        "select filter curate quality difficulty subset data selection which rows",
    ),
    Goal(
        "problem",
        "the student makes the same mistakes again",
        ("lema", "supercorrect", "orion"),
        "It is shown errors with their correction, learns to correct its first wrong step, or rewrites in their view.",
        "own errors wrong attempts learn from mistakes correction",
    ),
    Goal(
        "problem",
        "it does not notice its errors",
        ("r3v", "verithinker", "supercorrect"),
        "It learns to mend and choose among its solutions, to say which of them are right, or to correct a step.",
        "verify itself self-correct reflection self-verification check own answer",
    ),
    Goal(
        "problem",
        "it reasons rightly and calculates wrongly",
        ("pad", "kpdd"),
        "It writes a program, and Python calculates.",
        "arithmetic calculation miscalculates calculator numbers",
    ),
    Goal(
        "problem",
        "the problems have too many parts",
        ("socratic_cot", "divide_or_conquer", "explain"),
        "Asking the sub-questions, or planning, is learnt apart from answering.",
        "decompose sub-questions split plan multi-step smaller questions complex",
    ),
    Goal(
        "problem",
        "it drifts as soon as it reads its own words",
        ("gkd", "distillm", "kid"),
        "It is trained on texts of its own, or with its own slips in them.",
        "exposure bias on-policy train test mismatch inference",
    ),
    Goal(
        "problem",
        "it mixes up facts and conclusions",
        ("memory_reason", "llmquoter"),
        "Recalled and reasoned steps are labelled, or the facts are quoted first.",
        "knowledge memory misremembers hallucinates facts",
    ),
    Goal(
        "problem",
        "imitation brings no more",
        ("deepseek_r1", "phi4_mini_reasoning", "still2"),
        "Supervised stages first, then reinforcement by verdicts, or rounds of its own right texts.",
        "plateau reinforcement learning rewards grpo pipeline stages verifier after sft",
    ),
    Goal(
        "problem",
        "it may take more calls, and no more training",
        ("subthoughts", "discriminator"),
        "A solver of the family `testtime` asks any student more than once: an answer is finished anew from several "
        "places, or candidates are judged.",
        "test-time inference compute scaling without training",
    ),
)


def goals_of(method: str) -> list[Goal]:
    """The rows that name a method."""
    return [goal for goal in GOALS if method in goal.methods]

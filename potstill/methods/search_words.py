"""The words of a search for methods: what says nothing, what turns a meaning round, and what means the same."""

from __future__ import annotations

# Words that tell no method from another.
_STOPWORDS = """
a about again all also always am an and any are as at be because been before behind being but by can could did do
does doing done each even ever few find for from get gets give given gives go goes good had happen has have having
help her here his how i if in into is it its just keep kind know let like lot make makes making many may me might
more most much must my need needed needs now of often on once one only or our over paper papers per please possible
quite rather read really said same say says see seem set shall she should since so some something still such suppose
take tell than that the them then there these they thing things this those though through thus to try trying under
until up upon us use used uses using very want wants was way ways we well went were what when where which while who
whom whose why will wish with work works would yet you your
approach approaches arxiv at al et method methods model models llm llms language
"""
STOPWORDS = frozenset(_STOPWORDS.split())

# The words behind one of these, up to the end of the phrase, are looked for as what is not there.
_NEGATIONS = """
no not without none nothing nobody never cannot can't don't doesn't didn't isn't aren't won't lack lacks lacking
missing nor neither instead
"""
NEGATIONS = frozenset(_NEGATIONS.split())

# Phrases that are replaced before their words are read. "without teacher" is said of each method that needs none.
PHRASES = {
    r"\b(?:only|just) (?:have |has |got )?(?:the |a |my |one )?(?:student|small model)\b": "student without teacher.",
    r"\b(?:student|model) (?:alone|only|by itself)\b": "student without teacher.",
    r"\bself[- ](?:train|improve|taught|teach|distil)\w*": "self-training without teacher.",
    r"\btoo (?:long|lengthy|verbose|wordy|slow)\b": "shorter",
    r"\btoo (?:hard|difficult|complex|complicated|strong)\b": "hard easier",
    r"\b(?:test|inference)[- ]time\b": "test-time",
    r"\bground[- ]truth\b": "gold",
    r"\b(white|black|open|closed)[- ](box|ended|source)\b": r"\1-\2",
    r"\bchains?[- ]of[- ]thoughts?\b|\bcots?\b": "chain",
    r"\bsub[- ]?(questions?|problems?|tasks?)\b": "sub-question",
}

# Each line holds words that mean the same to somebody who looks for a method. They are compared by their stems, so one
# form of a word is enough. A word may stand in several lines.
SYNONYMS = """
short concise brief brevity compact length verbosity prune trim compress cut overthink redundant
mistake error wrong incorrect failure fail slip flawed
chain rationale reasoning thought trace derivation think solution cot
logits distribution divergence kl probability white-box soft
layer hidden state representation feature
reinforcement rl reward grpo ppo policy rlvr
program code python programming coding executable sandbox interpreter
dpo preference pair contrast contrastive orpo negative
decompose decomposition divide split sub-question smaller subtask part
hard difficult difficulty challenging complex strong gap capacity
easy simple
gold reference label labelled annotated
teacher expert oracle large bigger stronger
check verify verifier verdict verifiable verification judge grade grader validate
correct right
correction repair mend fix amend bridge
invalid valid broken ill-posed faulty noisy unsolvable
question problem task exercise
test-time inference solver decoding
expensive cost cheap budget money annotate annotation active worth afford
choose select pick filter curate selection choice
mix combine mixture blend
own self itself self-training bootstrap
several multiple ensemble many
rewrite rephrase revise refine refined adapt tailor fit
search tree explore exploration path untaken beam candidate
document context passage retrieval rag quote evidence
memory recall remember fact knowledge
tokenizer tokenization vocabulary
writing open-ended creative essay
direct fast quick immediate latency speed answer-only
explain explanation editorial feedback critique reflection
augment synthetic synthesize generate create
vote majority agree consistency consensus
step stepwise process
skip leap gap jump omit
prefix beginning start
medical medicine doctor clinical health
finance financial bank
uncertain uncertainty doubt confidence entropy
"""

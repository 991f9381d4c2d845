"""Methods found by a question in plain words, the best first: BM25 over what their files say of themselves.

Three things are added to BM25, because a newcomer's words are seldom a paper's. Words are compared by their stems. The
groups of `SYNONYMS` say which words mean the same here. And what stands behind a "no" or "without" is a term of its
own, so that "without gold answers" finds a method that needs none, and not one that speaks of gold answers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from potstill.methods.docstring import CITE, LEARNS_FROM, NEEDS
from potstill.methods.goals import GOALS
from potstill.methods.listing import FamilyListing, MethodListing
from potstill.methods.search_words import NEGATIONS, PHRASES, STOPWORDS, SYNONYMS

# BM25's constants: how soon a word that is repeated counts no more, and how much a long text is held back.
K1, B = 1.2, 0.3
LEAST_RARITY = 0.05
SYNONYM_WEIGHT = 0.6  # of a word that means the same, beside the word itself
GOAL_WEIGHT = 1.0  # of a row of the guide, beside what a method says of itself
NEGATED_WORDS = 3  # behind a negation
MOST_SHOWN = 10
LEAST_SHOWN_SHARE = 0.3  # of the best score: a method that scores less is not shown

# How much a word counts where it stands. What a method departs in or lacks is not searched: it is not there.
FIELD_WEIGHTS = {
    "name": 3.0,
    "title": 2.0,
    "learns from": 2.0,
    "facts": 2.0,
    "summary": 1.0,
    "family": 1.0,
    "citation": 1.0,
    "needs": 0.7,
}

_WORD = re.compile(r"[a-z0-9]+(?:['.-][a-z0-9]+)*|[,;:.?!()|]")
_SECTION = re.compile(r"^[A-Z][a-z]+(?: [a-z]+)?: ", re.MULTILINE)
_SUFFIXES = (
    "ations",
    "ation",
    "ings",
    "ing",
    "edly",
    "ed",
    "ers",
    "er",
    "est",
    "es",
    "s",
    "ly",
    "e",
)


class Match(NamedTuple):
    """A method, and how well it fits a question: above 0, comparable within one search only."""

    method: MethodListing
    score: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Args:
        matches: the best first.
        unknown_words: words of the question that stand in no method, nor do any that mean the same.
    """

    matches: Sequence[Match]
    unknown_words: Sequence[str] = ()

    @property
    def methods(self) -> list[MethodListing]:
        """The methods that were found, the best first."""
        return [match.method for match in self.matches]


def search_methods(
    listings: Iterable[MethodListing], question: str, families: Mapping[str, FamilyListing]
) -> SearchResult:
    """The methods that fit a question best; all of them, in their order, where it is empty.

    Args:
        listings: to search.
        question: in plain words; those that say nothing are left out.
        families: by name, whose descriptions their methods are found by too.
    """
    methods = list(listings)
    if not question.strip():
        return SearchResult([Match(method, 0.0) for method in methods])
    # One index for both, so that a word of many methods tells little in a row of the guide too.
    texts: list[Mapping[str, float]] = []
    for method in methods:
        family = families.get(method.family)
        texts.append(method_terms(method, family.learns_from if family is not None else ""))
    for goal in GOALS:
        texts.append(Counter(read_terms(f"{goal.situation}. {goal.words}")))
    index = Index(texts)
    terms = list(dict.fromkeys(read_terms(question)))
    goal_scores = score_by_goals(terms, index, len(methods))
    matches: list[Match] = []
    for place, method in enumerate(methods):
        score = index.score_all(terms, place) + goal_scores.get(method.name, 0.0)
        if score > 0:
            matches.append(Match(method, score))
    # Equal scores stay in the order of names.
    matches.sort(key=lambda match: -match.score)
    if matches:
        least_score = LEAST_SHOWN_SHARE * matches[0].score
        matches = [match for match in matches[:MOST_SHOWN] if match.score >= least_score]
    unknown_words = [word for term, word in read_words(question) if not index.knows(term)]
    return SearchResult(matches, list(dict.fromkeys(unknown_words)))


def score_by_goals(terms: Sequence[str], index: Index, first_place: int) -> dict[str, float]:
    """How well a question fits what a method is recommended for in the guide, by method; its best row counts.

    Args:
        terms: of the question.
        index: where the rows of the guide stand from `first_place` on.
        first_place: of the rows.
    """
    scores: dict[str, float] = {}
    for place, goal in enumerate(GOALS, start=first_place):
        goal_score = index.score_all(terms, place)
        for rank, name in enumerate(goal.methods):
            # What is to be tried first comes first.
            score = GOAL_WEIGHT * goal_score * (1 - 0.05 * rank)
            scores[name] = max(score, scores.get(name, 0.0))
    return scores


class Index:
    """The terms of several texts, to be scored by BM25.

    Args:
        texts: the terms of each, with their weights summed over where they stand.
    """

    def __init__(self, texts: Sequence[Mapping[str, float]]) -> None:
        self._texts = texts
        self._lengths = [sum(text.values()) for text in texts]
        self._mean_length = sum(self._lengths) / max(len(texts), 1)
        self._text_counts: Counter[str] = Counter()
        for text in texts:
            self._text_counts.update(text.keys())

    def knows(self, term: str) -> bool:
        """Whether the term stands in a text, or one that means the same."""
        return any(self._text_counts[word] for word in (term, *synonyms_of(term)))

    def score_all(self, terms: Sequence[str], place: int) -> float:
        """How much a text says of several terms."""
        return sum(self.score(term, place) for term in terms)

    def score(self, term: str, place: int) -> float:
        """How much a text says of a term: the word itself, or the one of the same meaning that says most."""
        scores = [self._score_word(term, place)]
        for word in synonyms_of(term):
            scores.append(SYNONYM_WEIGHT * self._score_word(word, place))
        return max(scores)

    def _score_word(self, word: str, place: int) -> float:
        frequency = self._texts[place].get(word, 0.0)
        if not frequency:
            return 0.0
        text_count = self._text_counts[word]
        # A word of more than half of the methods tells next to nothing.
        rarity = math.log((len(self._texts) - text_count + 0.5) / (text_count + 0.5))
        rarity = max(rarity, LEAST_RARITY)
        length = 1 - B + B * self._lengths[place] / self._mean_length
        return rarity * frequency * (K1 + 1) / (frequency + K1 * length)


@cache
def method_terms(method: MethodListing, family_text: str) -> Mapping[str, float]:
    """The terms that a method is found by, each with its weights summed."""
    text = method.text
    summary, _, _ = text.doc.partition("\nArgs:\n")
    fields = {
        "name": f"{method.name} {method.name.replace('_', ' ')} {method.name.replace('_', '-')}",
        "title": f"{text.title} {text.arxiv}",
        "learns from": text.section(LEARNS_FROM),
        "facts": "" if set(method.needed_roles) - {"student"} else "without teacher",
        "summary": f"{drop_sections(text.module_doc)}\n{drop_sections(summary)}",
        "family": f"{method.family} {family_text}",
        "citation": text.section(CITE),
        "needs": text.section(NEEDS),
    }
    terms: dict[str, float] = {}
    for name, field in fields.items():
        for term in read_terms(field):
            terms[term] = terms.get(term, 0.0) + FIELD_WEIGHTS[name]
    return terms


def drop_sections(doc: str) -> str:
    """A docstring without its sections and tables, which begin lines with `Name: ` and `|`."""
    paragraphs = []
    for paragraph in doc.split("\n\n"):
        if not _SECTION.match(paragraph) and not paragraph.startswith("|"):
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def read_terms(text: str) -> list[str]:
    """The terms of a text in order; see `read_words`."""
    return [term for term, _ in read_words(text)]


def read_words(text: str) -> list[tuple[str, str]]:
    """The terms of a text, each with the word that it was read from: stems, with "no:" behind a negation."""
    text = text.lower().replace("’", "'")
    for pattern, replacement in PHRASES.items():
        text = re.sub(pattern, replacement, text)
    terms: list[tuple[str, str]] = []
    negated_words = 0
    for word in _WORD.findall(text):
        if not word[0].isalnum():
            negated_words = 0
        elif word in NEGATIONS:
            negated_words = NEGATED_WORDS
        elif word not in STOPWORDS:
            prefix = "no:" if negated_words > 0 else ""
            negated_words -= 1
            terms.append((prefix + stem(word), word))
    return terms


@cache
def stem(word: str) -> str:
    """A word without its endings: `shorter` and `shortest` come to `short`, `verifier` and `verify` to `verifi`."""
    word = word.removesuffix("'s")
    was_cut = True
    while was_cut:
        was_cut = False
        for suffix in _SUFFIXES:
            rest = word.removesuffix(suffix)
            # `loss` does not lose its s, and no word so much that it could be any other.
            if rest != word and len(rest) >= 3 and not (suffix == "s" and rest.endswith("s")):
                word, was_cut = rest, True
                break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return re.sub(r"y$", "i", word)


@cache
def synonym_groups() -> Mapping[str, frozenset[str]]:
    """The stems that mean the same as each stem of `SYNONYMS`."""
    groups: dict[str, set[str]] = {}
    for line in SYNONYMS.strip().splitlines():
        stems = {stem(word) for word in line.split()}
        for word in stems:
            groups.setdefault(word, set()).update(stems - {word})
    return {word: frozenset(others) for word, others in groups.items()}


def synonyms_of(term: str) -> list[str]:
    """The terms of the same meaning; of a negated one negated."""
    word = term.removeprefix("no:")
    prefix = term.removesuffix(word)
    return [prefix + other for other in sorted(synonym_groups().get(word, ()))]

"""The words of a question, without what its copies differ in: numbering, markup, math delimiters, instructions.

Two questions with equal words are one question. Text is as people and datasets write it; nothing is evaluated.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from potstill.verifiers.unicode import normalise_characters

Words: TypeAlias = tuple[str, ...]


class QuestionText(NamedTuple):
    """What is compared of a text.

    Args:
        words: all of its words, without numbering and labels.
        segments: the words of each sentence, line and part before a colon.
        core: the words without instructions ("Think step by step"); all words where nothing else would be left.
        core_segments: the segments that make the core.
    """

    words: Words
    segments: tuple[Words, ...]
    core: Words
    core_segments: tuple[Words, ...]


_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]{0,10}(?:\s[^<>]{0,200})?/?>")
# Where a turn begins or ends: `<|im_end|>`, `[INST]`.
_CHAT_MARK = re.compile(r"<\|[^|<>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Patterns of LaTeX and what stands in their place, in this order.
_LATEX = (
    (re.compile(r"\\\\(?=[a-zA-Z(\[])"), r"\\"),  # backslashes that were escaped once more
    (re.compile(r"\\[()\[\]]|\\?\$"), " "),
    (
        re.compile(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])|\\[!,;:> ]|~"),
        " ",
    ),
    (
        re.compile(
            r"\\(?:text|mathrm|textbf|mathbf|textit|mathit|mbox|operatorname|emph)\s?\{([^{}]*)\}"
        ),
        r" \1 ",
    ),
    (re.compile(r"\\[dtc]?frac\s?(\d)\s?(\d)"), r" \1/\2 "),
    (re.compile(r"\\[dtc]?frac\s?\{\s?(\w+)\s?\}\s?\{\s?(\w+)\s?\}"), r" \1/\2 "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), " * "),
    (re.compile(r"\\div(?![a-zA-Z])"), " / "),
    (re.compile(r"\\(?:leqslant|leq|le)(?![a-zA-Z])"), "<="),
    (re.compile(r"\\(?:geqslant|geq|ge)(?![a-zA-Z])"), ">="),
    (re.compile(r"\\neq?(?![a-zA-Z])"), "!="),
    (re.compile(r"\\([%$&#_])"), r" \1 "),
)
_TIMES = re.compile(r"(?<=\d)\s?x\s?(?=\d)", re.IGNORECASE)  # "17 x 23"
# Emphasis, code marks, headings and quotations of Markdown; "3 * 4" and "x_1" are none.
_MARKDOWN = re.compile(
    r"(?<![\w)*])\*{1,3}(?=[^\s*])|(?<=[^\s*])\*{1,3}(?![\w(*])|(?<!\w)_{1,3}(?=\w)|(?<=\w)_{1,3}(?!\w)|`+"
    r"|^[ \t]{0,3}(?:#{1,6}|>)[ \t]+|~~",
    re.MULTILINE,
)
_MARKDOWN_SIGN = re.compile(r"[*_`#>~]")
# "12.", "Problem 3:", "(a)", "Q:", "[2 points]" at the beginning of a text or line.
_LABEL = re.compile(
    r"(?:^|(?<=\n))\s*(?:"
    r"(?:question|problem|exercise|task|example|prompt|input|query|user|human|instruction|q|ex|no|prob"
    r"|frage|aufgabe|pregunta|problema|problème|exercice|вопрос|задача|题目|问题|問題|题)(?:\b|(?=\d))"
    r"(?:\s*(?:no\.?|number|#)?\s*\(?\d{1,5}[a-z]?\)?)?\s*(?:[.:)\]-]+|(?=\n))"
    r"|#?\(?\d{1,5}[.)](?=\s+\D)|#\d{1,5}\s|\([a-z]\)\s|[-•]\s+(?=[A-Z])|\[\s?\d{1,4}\s(?:points?|marks?)\s?\]"
    # A source, and a bare number before a word that begins a question.
    r"|(?-i:[(\[][A-Z][^()\[\]\n]{1,40}\d{2,4}[^()\[\]\n]{0,20}[)\]](?=\s+[A-Z]))"
    r"|(?-i:\d{1,4}\s+(?=(?:What|How|Find|Compute|Calculate|Let|Given|Solve|Which|Determine|Evaluate|Simplify|Suppose"
    r"|Who|Where|When|Why)\b)))\s*",
    re.IGNORECASE,
)
_SEGMENT_END = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+|\n+|:\s+|(?<=。)|(?<=[\u3040-\u30ff\u3400-\u9fff][:?!])"
)
# A word, a LaTeX command, or a sign that carries meaning: without + and -, "3+4" would be "3-4".
_WORD = re.compile(r"\\?\w+|[^\w\s.,;:!?'\"“”‘’{}\\]|(?<=\d)[.,:](?=\d)")
_HYPHEN = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])")
# What instructions say; a sentence with one of these, and with nothing to compute, is no part of the question.
_TASK = r"(?:problem|question|task|exercise|puzzle)"
_ROLE = r"(?:assistant|expert|tutor|teacher|mathematician|model|ai|solver|student|professor)"
_INSTRUCTION = re.compile(
    r"step[ -]by[ -]step|\bfinal (?:answer|result)\b|\\boxed"
    r"|\b(?:answer|result|solution)\b.{0,60}\b(?:in|inside|within) (?:a |the )?box"
    r"|\bshow(?:ing)? (?:all )?(?:of )?(?:your|the) (?:work|working|steps|reasoning|calculations?)\b"
    r"|\byour (?:final |full )?(?:answer|reasoning|solution|response|reply|work|thoughts?)\b"
    rf"|\b(?:following|given|next) (?:\w+ ){{0,3}}{_TASK}s?\b|\b{_TASK}s? (?:below|above|that follows)\b"
    rf"|\b(?:given|below is|here is) an? (?:\w+ ){{0,3}}{_TASK}\b|\byou are (?:an?|the) (?:[\w-]+ ){{0,6}}{_ROLE}\b"
    r"|\b(?:think|reason) (?:carefully|hard|deeply|slowly|about|through|it|this|out)\b"
    r"|\blet['’]?s (?:think|solve|work)\b"
    r"|\bplease (?:solve|answer|reason|think|provide|give|work|explain|show|put|write|respond|help)\b"
    r"|\b(?:answer|respond|reply) (?:with|in|only|using|as) |\bonly the (?:answer|letter|number|result)\b"
    rf"|\b(?:answer|solve|consider|read|complete) (?:the|this) (?:\w+ ){{0,3}}{_TASK}\b|\bexplain your\b"
    r"|\btake a deep breath\b|\bgood luck\b|\bbelow is an? (?:instruction|question|problem|task)\b"
    r"|\bwrite a response\b|\bwrite the (?:result|answer)\b"
    r"|^\s*(?:answer|solution|response|instruction|input|output|question|problem|user|assistant|a|q)\s*[:.]?\s*$"
    r"|\bchoose (?:the|one)(?: \w+){0,2} (?:answer|option)s?\b|\bselect the (?:\w+ )?(?:answer|option)\b",
    re.IGNORECASE,
)
# "Round your answer to 2 decimal places", "Give the final answer as an integer from 0 to 999."
_ANSWER_FORMAT = re.compile(
    r"\W*(?:please\s+|make sure to\s+|remember to\s+)?(?:express|give|round|write|put|provide|state|enter|report"
    r"|submit|output|present|return|format|leave)\s+(?:your|the|all)\s+(?:\w+\s+){0,2}(?:answers?|results?)\b[^=+^<>?]*$"
    r"|\W*(?:your|the) (?:final )?answer (?:should|must|will) be\b[^=+^<>?]*$",
    re.IGNORECASE,
)
# Every instruction holds one of these; looking for them first is ten times faster.
_CUES = (
    "step|answer|result|solution|boxed|show|your |problem|question|task|exercise|puzzle|you are|think|reason|let's"
    + "|let’s|please|respond|reply|breath|good luck|option|a:|respon|instruction|input"
    + "|output|user|assistant|q:"
)
_INSTRUCTION_CUES = tuple(_CUES.split("|"))
_COMPUTED = re.compile(r"[\d=+^<>]")
_BOX = re.compile(r"\\boxed\s?(?:\{\s*\w*\s*\})?")
MIN_CORE = 3  # words: fewer are no question


@lru_cache(maxsize=8192)
def read_question(text: str) -> QuestionText:
    """Return what is compared of a question; the latest are remembered."""
    return read_once(text)


def read_once(text: str) -> QuestionText:
    """Return what is compared of a text, and remember nothing: of completions, which are long and come once."""
    plain = _plain_text(text)
    while label := _LABEL.match(plain):
        if not plain[label.end() :].strip():
            break
        plain = plain[label.end() :]
    lower_case = plain.lower()
    has_instructions = any(cue in lower_case for cue in _INSTRUCTION_CUES)
    segments: list[Words] = []
    question_segments: list[Words] = []
    for segment in _SEGMENT_END.split(plain):
        label = _LABEL.match(segment)
        words = _split_words(segment[label.end() :] if label else segment)
        if not words:
            continue
        segments.append(words)
        if not (has_instructions and _is_instruction(segment)):
            question_segments.append(words)
    all_words, core = _join(segments), _join(question_segments)
    if len(core) < MIN_CORE:
        core, question_segments = all_words, segments
    return QuestionText(all_words, tuple(segments), core, tuple(question_segments))


def _is_instruction(segment: str) -> bool:
    """Whether a sentence tells how to answer, and holds nothing to compute."""
    if _ANSWER_FORMAT.match(segment):
        return True
    if not _INSTRUCTION.search(segment):
        return False
    return _COMPUTED.search(_BOX.sub("", segment)) is None


def _join(segments: list[Words]) -> Words:
    words: list[str] = []
    for segment in segments:
        words += segment
    return tuple(words)


def _plain_text(text: str) -> str:
    """One spelling for typography, LaTeX and Markdown."""
    if "&" in text:
        text = html.unescape(text)
    if not text.isascii():
        # Signs become LaTeX, characters that can't be seen go, those of other widths and styles become the usual ones.
        text = unicodedata.normalize("NFKC", normalise_characters(text))
    if "<" in text or "[" in text:
        text = _TAG.sub(" ", _CHAT_MARK.sub("\n", text))
    if "\\" in text or "~" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    text = _TIMES.sub(" * ", _THOUSANDS.sub("", text.replace("$", " ")))
    return _MARKDOWN.sub("", text) if _MARKDOWN_SIGN.search(text) else text


def _split_words(text: str) -> Words:
    """Words and signs, without case, punctuation and hyphens."""
    if "-" in text:
        text = _HYPHEN.sub(" ", text)
    return tuple(_WORD.findall(text.casefold()))

"""Where the final answer stands in a text: after a mark, or on the last line. Text is hostile: searches are linear.

Only the reply counts: what stands after the thought. A thought without a reply, closed or cut, is no answer, or a model
would be rewarded for not finishing. Inside `reading_thoughts` it is searched too, for *marked* answers alone: its last
line is wherever the author happened to stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from potstill.verifiers import claims
from potstill.verifiers.thoughts import reads_thoughts, split_reply

# Characters searched, from the end: an answer stands late, and a text of 10 MB must cost no more than this.
TAIL = 200_000


class Candidate(NamedTuple):
    """The text of an answer and what marked it: "boxed", "####", "tag", "answer" or "last line"."""

    text: str
    mark: str


class _Phrase(NamedTuple):
    """What words announce as the answer: "the answer is 18", "Answer: 18"."""

    text: str
    is_label: bool  # "Answer:" at the beginning of a line
    is_claim: bool  # and no denial, and no remark such as "the answer is correct"
    denied: str  # what is denied, "" where nothing is


class _Box(NamedTuple):
    """A closed `\\boxed{…}` with its place in the text."""

    start: int
    stop: int
    content: str


# Terminal escapes hold digits that are nobody's answer.
_TERMINAL_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?)"
)
_BOX_OR_BRACE = re.compile(r"\\{1,2}(?:boxed|fbox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####([^\n]*)")
_HASHED_NUMBER = re.compile(
    r"[-+−]?\s{0,2}[$€£]?\s{0,2}[-+−]?\.?\d[\d,]*(?:[./]\d+)?\s?%?(?:[ \t][a-z]{1,20}){0,3}[ \t]*\.?"
)
# "The answer is", "the final answer would be", "the answer can't be", and a line that begins with "A:".
_ANSWER_PHRASE = re.compile(
    r"(?:^[ \t>*_]{0,8}A[ \t]{0,3}:|(?:答案|答え)[ \t]{0,3}(?:是|为|為|は|[:：])"
    r"|^[ \t>*_#]{0,8}(?:antwort|r[ée]ponse|respuesta|risposta|resposta|ответ)(?:[ \t]{1,3}\w{1,12})?[ \t*_]{0,6}[:：]"
    r"|\banswers?\b(?:[ \t]{1,3}[a-z']{1,20}){0,8}?[ \t*_\"]{0,6}(?::|=|\bis\b|\bare\b|\bwould be\b|\bequals\b"
    r"|(?P<denial>\b(?:(?:is|are)n['’]t|can(?:not|['’]t) be|could(?: not|n['’]t) be|does(?: not|n['’]t) equal)))"
    r")[ \t*_:]{0,8}",
    re.IGNORECASE | re.MULTILINE,
)
_MAX_PHRASE = 2_100  # characters of what a phrase announces; a verifier reads fewer
_MAX_PHRASES = 100  # of a text, from its end
_MAX_CLAIM = 300  # characters of it in which a denial is looked for
# "This answer assumes that x is real", "I hope that answers the question: …": the word, and no answer.
_OTHER_VERB = re.compile(
    r"answers (?:your|the|this|all|both|my)\b|answers? (?:also |just |only )?(?:assumes?|depends?|uses?|means?|shows?"
    r"|follows?|relies|rely|matche?s?|agrees?|requires?|holds?|works?|gives?|says?|checks?|satisf(?:y|ies)|corresponds?|implies"
    r"|suggests?|tells?|includes?|contains?|seems?|looks?)\b",
    re.IGNORECASE,
)
# "48? That's wrong."
_CALLED_WRONG_NEXT = re.compile(
    r"[^.?!\n]{1,60}\?\s{1,3}no[,.!;]"
    r"|[^.?!\n]{1,60}[.?!]\s{1,3}(?:(?:no|wait|hmm?|but|hold on|actually)[,.!]?\s{1,3}){0,3}(?:that|this|it|which)"
    r"(?:['’]s|\s(?:is|was))\s(?:\w{2,20}ly\s)?(?:wrong|incorrect|false|impossible|a mistake"
    r"|not (?:right|correct|true|it|possible|the answer))\b",
    re.IGNORECASE,
)
_FEW_SMALL_WORDS = re.compile(r"[a-z][a-z'-]{2,20}(?: [a-z'-]{1,20}){0,2}")
_WORD_ANSWER = re.compile(
    r"\b(?:no|none|not|never|nothing|undefined|infinit\w*|impossible|yes|true|false|even|odd|always|empty|unknown|zero|one|two"
    r"|three|four|five|six|seven|eight|nine|ten|\w+teen|\w+ty|hundred|thousand|million|half|dozen)\b"
)
# Before "the answer is": words by which nothing is claimed.
_NO_CLAIM = re.compile(
    r"(?:\b(?:if|whether|unless|suppose|supposing|assum(?:e|es|ed|ing)|imagine|pretend|why|how|what|doubt|den(?:y|ies))"
    r"|\bnot (?:the case|true|correct|right|possible|likely)|(?:\bnot|n['’]t) (?:think|believe|say|claim|mean)"
    r"|\b(?:false|wrong|incorrect|untrue|impossible|unlikely|mistake)(?: to (?:say|think|claim|conclude))?)"
    r"\s{0,3}(?:that\s{1,3})?(?:(?:the|this|that|my|your|our|final|correct|right|an?)\s{1,3}){0,4}$",
    re.IGNORECASE,
)
# After it: words that say something about the answer, and not the answer.
_REMARK = re.compile(
    r"(?:(?:\w{2,20}ly|quite|very|also|still|now|thus|then|indeed|both|probably) ){0,3}"
    r"(?:(?:correct|right|wrong|incorrect|reasonable|clear|helpful|useful|valid|consistent|plausible|sensible|sound|verified"
    r"|confirmed|checked|unique|exact|final|complete|obvious|simple|accurate|true|fine|good|okay|ok|positive|negative|even|odd"
    r"|an integer|a whole number|the same|above|below|here|as (?:follows|expected|required|above))\b"
    r"|(?:expressed|rounded|written|given|boxed|shown|stated|based|obtained|found|derived|measured|simplified|reduced)\b"
    r"(?! (?:to be|as|by)\b|:| =)"
    r"|in (?:the |its )?(?:simplest|lowest|reduced|required|correct|form|terms|dollars|units|cents|meters|degrees)\b"
    r"|the (?:sum|product|difference|quotient|ratio|average|total|result) of\b(?![^\n]*(?:=|which is|that is|namely|:))"
    r"|(?:always |just |simply )?(?:one|two|three|four|five|half|twice|double|triple|\d+)"
    r" (?:more|less|fewer|times|of|the|as)\b"
    r"(?! \w+[.!]?$)(?![^\n]*=)"
    r"|(?:greater|less|more|fewer|larger|smaller|higher|lower) than\b|(?:between|above|below|at least|at most)\b"
    r"|\d+ times (?:the|as|larger|smaller|more|less|bigger)\b)",
    re.IGNORECASE,
)
_EXPLANATION_HEADING = re.compile(
    r"^[ \t>*_#]{0,8}(?:explanation|reasoning|reason|justification|rationale|why)\b[ \t*_]{0,6}:",
    re.IGNORECASE | re.MULTILINE,
)
# A last line that is no part of the answer.
_PLEASANTRY = re.compile(
    r"[\W_]{0,8}(?:(?:please )?let (?:me|us) know|i hope|hope (?:this|that|it)|(?:please )?feel free|good luck|happy to"
    r"|if you(?:'d| would)? (?:have|need|want|like)|is there anything|would you like|do you (?:want|need|have)"
    r"|thank(?:s| you)|i(?:'m| am) (?:happy|glad) to|glad to|you(?:'re| are) welcome"
    r"|(?:i(?:'m| am) )?(?:sure|confident)"
    r"(?: (?:that|about|in|of|this|it|the|my|our|answer|solution|result|is|final|\w+ly)){0,8}"
    r"(?: (?:correct|right))?\W*$|(?:this|that|the|my|our) (?:final )?(?:answer|solution|result) (?:is|was|seems|looks)"
    r" (?:\w+ly )?(?:correct|right|reasonable|clear|helpful|valid|verified|confirmed)\b[^\d]*$)",
    re.IGNORECASE,
)
# A text whose backslashes were all escaped once more, as JSON does it.
_DOUBLED_COMMAND = re.compile(
    r"\\\\(?:boxed|fbox|[dtc]?frac|sqrt|text|math[a-z]{2,4}|left|right|pi|cdot|times|begin|circ|infty|pm|sin|cos|tan|log|ln)"
    r"(?![a-zA-Z])"
)
_LOST_BACKSLASH = re.compile(r"\x0c(?=rac|box)|\x08(?=oxed|inom|egin|eta)")
_ESCAPED_LETTERS = {"\x0c": "\\f", "\x08": "\\b"}
_SINGLE_COMMAND = re.compile(r"(?<!\\)(?:\\\\){0,8}\\[a-zA-Z]")
# What stands in a box that shows where an answer belongs: `\\boxed{}`, `\\boxed{\\text{your answer}}`.
_PLACEHOLDER = re.compile(
    r"\s*(?:\\text\s?\{)?\s*(?:(?:your|the|final|my|an?)\s+){0,3}(?:answer|result|ANSWER)?(?:\s+here)?\s*\}?\s*"
    r"|\s*(?:\.\.\.|…|\\[lc]?dots|_{1,9}|\?{1,3})\s*",
    re.IGNORECASE,
)
# A line that only begins or ends a fence or a displayed formula.
_FRAME = re.compile(r"(?:```|~~~)\w{0,12}|\$\$|\\[\[\]]")
# What Markdown strikes out is taken back.
_STRUCK_OUT = re.compile(r"~~(?=[^\s~])[^~\n]{1,200}~~")
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{")  # searched only where no box was closed
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|。")
_BETWEEN_BOXES = re.compile(
    r"[\s$,;.()\[\]\\]*(?:(?:and|or|und|\\text\{\s*(?:and|or)\s*\}|\\quad|[a-zA-Z]\s*=)[\s$,;()\[\]\\]*)*"
)


def candidates(text: str) -> tuple[Candidate, ...]:
    """Return where to read the answer, best first; a verifier takes the first that it can read.

    A box, tag or `####` after the reasoning stands alone. Else "the answer is", then the last line, and inside
    `reading_thoughts` a mark in the reasoning.
    """
    reply, reasoning = _searched_parts(text)
    marked = marked_answer(reply)
    if marked and marked.mark != "answer":
        return (marked,)
    last_line = _last_line(reply)
    if marked and last_line and _ANSWER_PHRASE.search(last_line.text):
        last_line = None  # the phrase is all that this line says
    possible = [marked, last_line]
    if reads_thoughts():
        possible.append(marked_answer(reasoning))
    return tuple(candidate for candidate in possible if candidate)


def candidates_beside_mark(text: str) -> tuple[Candidate, ...]:
    """Return what else could be the answer where a box, tag or `####` holds none: the phrase and the last line.

    A line that holds the mark itself is not among them.
    """
    reply, _ = _searched_parts(text)
    last_line = _last_line(reply)
    if last_line and marked_answer(last_line.text):
        last_line = None
    return tuple(candidate for candidate in (_answer_after_phrase(reply), last_line) if candidate)


def _searched_parts(text: str) -> tuple[str, str]:
    """The ends of reply and reasoning, without terminal escapes and doubled backslashes."""
    reply, reasoning = split_reply(text)
    parts: list[str] = []
    for part in (reply, reasoning):
        shown = _STRUCK_OUT.sub(" ", _TERMINAL_ESCAPE.sub("", part[-TAIL:]))
        parts.append(undouble_backslashes(shown))
    return parts[0], parts[1]


def undouble_backslashes(text: str) -> str:
    """Write `\\\\frac` as `\\frac` where a text holds commands with doubled backslashes only.

    Where an escape took one away (`\\f` became a form feed, `\\b` a backspace), it is put back.
    """
    if "\x0c" in text or "\x08" in text:
        text = _LOST_BACKSLASH.sub(lambda match: _ESCAPED_LETTERS[match[0]], text)
    if "\\\\" not in text or not _DOUBLED_COMMAND.search(text) or _SINGLE_COMMAND.search(text):
        return text
    return text.replace("\\\\", "\\")


def marked_answer(text: str) -> Candidate | None:
    """Return the last answer with a mark: a box, `<answer>` or `####`, or else "the answer is" or a line's "A:"."""
    # Of the strong marks the one that stands last; boxes that belong together are one answer.
    strong = [*_tagged_answer(text), *_hashed_answer(text)]
    boxes = [box for box in _closed_boxes(text) if not _PLACEHOLDER.fullmatch(box.content)]
    if boxes:
        strong.append((boxes[-1].start, Candidate(_join_boxes(text, boxes), "boxed")))
    if strong:
        _, last = max(strong)
        return last
    return _answer_after_phrase(text)


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a short text, each without its stop."""
    start = 0
    for stop in _SENTENCE_END.finditer(text):
        yield text[start : stop.start()]
        start = stop.end()
    if start < len(text) or not text:
        yield text[start:]


def first_sentence(text: str) -> str:
    """Return the text up to the first full stop that is followed by a space or the end."""
    stop = _SENTENCE_END.search(text)
    return text[: stop.start()] if stop else text


def _first_line(text: str) -> str:
    """The first line that is more than the beginning of a fence or displayed formula."""
    for line in text.strip().split("\n", 3):
        if not _FRAME.fullmatch(line.strip()):
            return line.strip()
    return ""


def _last_line(text: str) -> Candidate | None:
    """The last line that holds anything but a pleasantry.

    None where its box was cut off: `\\boxed{18` may have been to be 180.
    """
    remaining = text.rstrip()
    for _ in range(4):
        remaining, _, line = remaining.rpartition("\n")
        line = line.strip()
        if not (_PLEASANTRY.match(line) or _FRAME.fullmatch(line)):
            break
        remaining = remaining.rstrip()
    if not line or _OPEN_BOX.search(line) or _PLEASANTRY.match(line) or _FRAME.fullmatch(line):
        return None
    return Candidate(line, "last line")


def _closed_boxes(text: str) -> list[_Box]:
    """Every closed box that is not inside another, in one pass."""
    boxes: list[_Box] = []
    # For each open brace, where its box and the box's content begin; None for a brace that opens no box.
    open_braces: list[tuple[int, int] | None] = []
    for match in _BOX_OR_BRACE.finditer(text):
        token = match.group()
        if token == "{":
            open_braces.append(None)
        elif token != "}":
            # A box, or an escaped character that is passed over.
            if token.endswith("{") and len(token) > 2:
                open_braces.append((match.start(), match.end()))
        elif open_braces and (opened := open_braces.pop()):
            start, content_start = opened
            # Boxes inside this one are part of it.
            while boxes and boxes[-1].start > start:
                boxes.pop()
            boxes.append(_Box(start, match.end(), text[content_start : match.start()]))
    return boxes


def _tagged_answer(text: str) -> list[tuple[int, Candidate]]:
    """The last `<answer>…</answer>` with its place; empty where there is none."""
    stop = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(stop, 0))
    content = text[start + len("<answer>") : stop].strip()
    if start < 0 or not content:
        return []
    return [(start, Candidate(content, "tag"))]


def _hashed_answer(text: str) -> list[tuple[int, Candidate]]:
    """The last `#### 18` with its place; empty where there is none.

    "#### Step 2: add" is a heading, so hashes count before a bare number, or at the very end.
    """
    end = len(text.rstrip())
    last: list[tuple[int, Candidate]] = []
    for match in _HASHES.finditer(text):
        content = match.group(1).strip()
        if content and (match.end() >= end or _HASHED_NUMBER.fullmatch(content[:200])):
            last = [(match.start(), Candidate(content, "####"))]
    return last


def _answer_after_phrase(text: str) -> Candidate | None:
    """The last answer that words announce, as in "the answer is 18".

    Remarks ("the answer is correct") and denials ("the answer is not 18") count only where nothing else is announced.
    """
    phrases = _announced_answers(text)
    # "The answer is 18. No, the answer is not 18." takes back what was claimed.
    last_denial = {phrase.denied: place for place, phrase in enumerate(phrases) if phrase.denied}
    standing: list[_Phrase] = []
    for place, phrase in enumerate(phrases):
        if last_denial and last_denial.get(_bare(phrase.text), -1) > place:
            continue
        standing.append(phrase)
    asserted = [phrase for phrase in standing if phrase.is_claim]
    if len(asserted) > 1 and _is_afterthought(asserted[-1].text):
        # "… is 18. The other answer is extraneous."
        asserted = [phrase for phrase in asserted if not _is_afterthought(phrase.text)] or asserted
    for phrase in (asserted or standing)[-1:]:
        return Candidate(phrase.text, "answer")
    return None


def _announced_answers(text: str) -> list[_Phrase]:
    """Everything that words announce as the answer, in the order of the text; of very many the last ones."""
    phrases: list[_Phrase] = []
    first_claim = -1
    for match in list(_ANSWER_PHRASE.finditer(text))[-_MAX_PHRASES:]:
        line_end = min(_line_end(text, match.end()), match.end() + _MAX_PHRASE)
        answer = text[match.end() : line_end].strip()
        if not answer:  # "Final answer:" with the answer on the next line, or in a fence there
            answer = _first_line(text[match.end() : match.end() + 2_000])
        if (
            not answer.strip("*_:. ")
            or _OPEN_BOX.search(answer)
            or _OTHER_VERB.match(match.group())
        ):
            continue
        is_label = match.group().rstrip(" \t*_").endswith(":") and _begins_line(text, match.start())
        # What explains an answer that was given does not replace it.
        if not is_label and first_claim >= 0:
            heading = _EXPLANATION_HEADING.search(text, first_claim, match.start())
            if heading:
                continue
        if match["denial"]:
            answer = f"{match['denial']} {answer}"
        elif _CALLED_WRONG_NEXT.match(answer):
            answer = f"not {answer}"
        start_of_answer = answer[:_MAX_CLAIM]
        if not claims.claimed_part(start_of_answer).strip("*_:.,;!? "):
            denied = _bare(claims.denied_part(start_of_answer))
            phrases.append(_Phrase(answer, is_label, is_claim=False, denied=denied))
        elif not _NO_CLAIM.search(text[max(0, match.start() - 80) : match.start()]):
            is_claim = is_label or not _REMARK.match(answer.lstrip("*_ "))
            phrases.append(_Phrase(answer, is_label, is_claim, denied=""))
            if is_claim and first_claim < 0:
                first_claim = match.end()
    return phrases


def _is_afterthought(answer: str) -> bool:
    """Whether what is announced is a word or two in small letters, and none that says that there is no answer."""
    sentence = first_sentence(answer).strip("*_ ")
    return bool(_FEW_SMALL_WORDS.fullmatch(sentence)) and not _WORD_ANSWER.search(sentence)


def _begins_line(text: str, position: int) -> bool:
    """Whether only a few words and marks stand before a position in its line: "**Final answer".."""
    before = text[max(0, position - 40) : position].rpartition("\n")[2]
    return (
        position - len(before) in (0, text.rfind("\n", 0, position) + 1)
        and len(before.split()) <= 3
    )


def _bare(answer: str) -> str:
    """The first sentence of an answer without punctuation and emphasis, to compare what is claimed and denied."""
    return re.sub(r"[\s*_$.,;:!?()]+", "", first_sentence(answer)).casefold()


def _join_boxes(text: str, boxes: list[_Box]) -> str:
    """Boxes joined by "and", "or" or a comma are one answer: `\\boxed{3} or \\boxed{5}` must not pass for 5."""
    contents = [boxes[-1].content]
    for index in range(len(boxes) - 2, -1, -1):
        between = text[boxes[index].stop : boxes[index + 1].start]
        if len(between) > 40 or not between.strip("$ \n.") or not _BETWEEN_BOXES.fullmatch(between):
            break
        contents.insert(0, boxes[index].content)
    return ", ".join(contents)


def _line_end(text: str, start: int) -> int:
    stop = text.find("\n", start)
    return len(text) if stop < 0 else stop

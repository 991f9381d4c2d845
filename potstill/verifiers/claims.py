"""What a sentence claims and what it denies: "72, not 48" claims 72, "The answer is not 48" claims nothing.

`claimed_part` takes out what is denied, `rejected_values` finds values that are called wrong, and `has_bound` sees
"at least 48", which is no number. English only; every pattern is linear in a short text.
"""

from __future__ import annotations

import re

# "not", with what it may be part of. "Not only 48 but also 50" denies nothing.
_NOT = (
    r"(?:(?:can|could|will|would|must|should|may|might|do|does|did|is|are|was|were|has|have|had)"
    r"(?:\s?not|n['’]?t)|(?:can|won|shan|ain)['’]t|not|never|neither)"
    r"(?!\s+(?:only|just|merely|simply)\b[^.;]*\bbut\s+also\b)"
)
# Each of these denies what follows it.
_DENIALS = (
    _NOT,
    r"nor(?:\s+(?:is|are|was|were|can|could|will|would|does|do)(?:\s+(?:it|they|this|that))?)?",
    r"(?:rather|other)\s+than|instead\s+of|as\s+opposed\s+to|unlike|anything\s+but|far\s+from|hardly",
    r"except(?:\s+for)?|apart\s+from|aside\s+from|no\s+longer|in\s+no\s+way|by\s+no\s+means|rul(?:e|es|ed|ing)\s+out",
    r"nowhere\s+near|no\s+way|unlikely(?:\s+to\s+be)?",
)
# What may stand between a denial and the value: "by no means is it 48", "there is no way it's 48".
_AFTER_DENIAL = (
    r"(?:\s+(?:is|are|was|were|can|could|will|would|does|do|did)\s+(?:it|they|this|that|he|she|there|the\s+answer))?"
    r"(?:\s+(?:that\s+)?(?:it|this|that|the\s+answer)(?:['’]s|\s+is)(?=\s))?(?:\s+(?:be|been|to\s+be|equal(?:\s+to)?))?"
)
# A denial ends with its clause, or where something else is said: a verb that claims, or "but".
_DENIAL_ENDS = (
    r"[,;:.!?](?=\s|$)|[)\n]|\s[-–—]\s"
    r"|\b(?:but|nor|so|hence|thus|therefore|because|since|which|is|are|was|were|equals|gives|leaves|makes|totals)\b"
    r"|\b(?:it|that|he|she)['’]s\b|\b(?:we|they|it|he|she|i)\s+(?:get|gets|got|have|has|find)\b"
)
_FORMULA_OR_BRACKET = r"\$[^$\n]{1,200}\$|\\\([^\n]{1,200}?\\\)|\([^()\n]{1,200}\)"
_DENIED = re.compile(
    rf"\b(?:{'|'.join(_DENIALS)})\b{_AFTER_DENIAL}"
    # "The number not sold = 48" denies "sold", but "not x = 48" all of it; a formula or a bracket goes as a whole.
    rf"(?:(?=[^=]{{0,80}}[a-z]{{3}})[^\d=$\\,.;:!?()]{{0,80}}?(?==)|(?:{_FORMULA_OR_BRACKET}|(?!{_DENIAL_ENDS}).)*)",
    re.IGNORECASE | re.DOTALL,
)
_DENIAL_WORD = re.compile(rf"^(?:{'|'.join(_DENIALS)})\b{_AFTER_DENIAL}", re.IGNORECASE)
_EMPTY_BRACKETS = re.compile(r"\(\s*\)")
# A denial of a whole clause, verb and all: "it is not the case that …", "I don't think …".
_DENIED_CLAUSE = re.compile(
    r"\b(?:not\s+(?:the\s+case|true|correct|right|possible|likely)\s+(?:that|to\s+(?:say|think|claim|conclude))"
    rf"|{_NOT}\s+(?:think|believe|claim|say|conclude|agree|mean)|doubt|den(?:y|ies)"
    r"|(?:false|wrong|incorrect|untrue|impossible|unlikely|mistake)\s+(?:that|to\s+(?:say|think|claim|conclude))"
    r"|(?:if|whether|suppose|supposing|assum(?:e|ing))\s+(?:that\s+)?(?:the|this|that|our|your)\s+answer)\b"
    r"(?:(?![,;.!?](?:\s|$)|\n|\bbut\b).)*",
    re.IGNORECASE,
)
# What calls a value wrong that stands before it, by the verb: one value "is" wrong.
_SINGULAR = r"is|was|seems|looks|would\s+be|must\s+be"
_ANY_NUMBER = rf"{_SINGULAR}|are|were|seem|look"
_CALLED_WRONG = (
    r"\s*(?:(?:both|all)\s+)?(?:"
    r"(?:{verbs})\s+(?:(?:both|all|also|\w+ly)\s+){{0,2}}"
    r"(?:wrong|incorrect|false|invalid|impossible|inconsistent|implausible|excluded|eliminated|rejected|ruled\s+out"
    r"|too\s+\w+|out\b|not\s+(?:an?\s+|the\s+)?(?:\w+\s+)?(?:answer|correct|right|possible|valid|true|solution|option"
    r"|choice|it)\b|not\s*(?=[,.;!?]|$))"
    r"|(?:{verbs})n['’]t\s+(?:an?\s+|the\s+)?(?:\w+\s+)?(?:answer|correct|right|possible|valid|true|it)\b"
    r"|(?:can|could|must|will|would|may)(?:\s?not|n?['’]t)\s+be\b"
    r"|(?:can|could|may|must|should)\s+be\s+(?:ruled\s+out|excluded|eliminated|rejected|discarded|dismissed)"
    r"|(?:does|do|did|would|will|can)(?:\s?not|n['’]t)\s+(?:work|fit|satisfy|match|hold|apply|make\s+sense)"
    r"|fails?\b|contradicts?\b"
    # "48? No", "48? That doesn't work", "(C) 48 - incorrect".
    r"|\?\s+(?:no(?=[,.!;])|(?:that|this|it)(?:['’]s|\s+is|\s+was)\s+(?:wrong|incorrect|false|impossible|too\b|not\b)"
    r"|(?:that|this|it)\s+(?:fails|does(?:\s?not|n['’]t)|is(?:\s?not|n['’]t)|can(?:not|['’]t)))"
    r"|\s[-–—]\s?(?:wrong|incorrect|false|not\s+(?:correct|right|true))\b)"
)
_CLAUSE_REMAINDER = r"(?:(?![,;.!?](?:\s|$)|\n|\b(?:but|so|hence|thus|therefore|leaving)\b).)*"

# What makes a number after it a bound, in words and as a sign. "5 more than 3" is none: there a number stands before.
_BEFORE_BOUND = r"(?:\s|or\b|equal\b|to\b|exactly\b|about\b|around\b|the\b|some\b|[$€£(\\{+-])*"
_NUMBER_AHEAD = r"(?=[\d.]*\d|\\[a-z]*(?:frac|sqrt|pi))"
_BOUND_WORDS = re.compile(
    r"(?:\bat\s+(?:least|most)|(?<!\d\s)\b(?:no\s+)?(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger)\s+than"
    r"|\b(?:almost|nearly|close\s+to|just\s+(?:shy|short)\s+of|bounded\s+(?:above|below)\s+by)"
    r"|\bup\s+to|\bas\s+(?:many|much|few|little)\s+as|\bunder|\bover|\babove|\bbelow|\bbeyond|\bexceed(?:s|ing)?"
    rf"|\b(?:lower|upper)\s+bound(?:ed)?(?:\s+(?:of|by|is))?){_BEFORE_BOUND}{_NUMBER_AHEAD}",
    re.IGNORECASE,
)
_BOUND_SIGN = re.compile(
    r"(?:(?<![-=<>])[<>]=?(?!\s?[a-zA-Z/])|\\(?:l|g)(?:e|t|eq|eqslant)(?![a-zA-Z])|\\neq?(?![a-zA-Z])|!=)"
    rf"{_BEFORE_BOUND}{_NUMBER_AHEAD}"
)
_BOUND_AFTER = re.compile(
    r"\d[\w%°]*(?:\s+[a-z]{1,20})?\s+(?:or|and)\s+(?:more|less|fewer|greater|higher|lower|above|below|up)\b"
    r"|\d[\w%°]*(?:\s+[a-z]{1,20})?\s+at\s+(?:the\s+)?(?:very\s+)?(?:most|least|latest|earliest)\s*(?:[.,;!?)]|$)"
    r"|\$\s+at\s+(?:the\s+)?(?:very\s+)?(?:most|least)\s*(?:[.,;!?)]|$)"
    r"|\d\s*(?:[<>]=?|\\[lg](?:e|t|eq|eqslant)(?![a-zA-Z]))\s*[a-zA-Z](?![a-zA-Z])|\d\+(?=[\s.,]|$)",
    re.IGNORECASE,
)
# "He needs at least 8" gives the least number that will do.
_NEED = re.compile(
    r"\b(?:needs?|needed|requires?|required|ha(?:s|ve)\s+to|must(?!\s+be))\b[^,.;\d]{0,60}\bat\s+least\b",
    re.IGNORECASE,
)
# A number as words name it, or a formula.
_NUMBER_VALUE = r"(?:[-−+]?\s?[$€£]?\d[\d,./]*%?|\$[^$\n]{1,80}\$|\\\([^\n]{1,80}?\\\)|\\[a-zA-Z]{2,10}[^\s,;]{0,60})"


# One of these stands in every denial, and one in every bound; looking for them first is much faster.
_DENIAL_CUE = re.compile(
    r"n[o'’]|n?ever|neither|rather|other than|instead|opposed|unlike|but|far from|hardly|exc|apart|longer|way|mean"
    r"|rul|doubt|den|false|wrong|correct|valid|possible|mistake|true|if|whether|suppos|assum|too |fail|contradict|out"
    r"|eliminat|exclud|reject|dismiss|discard|consist|plausib|aside",
    re.IGNORECASE,
)
_BOUND_CUE = re.compile(
    r"[<>+]|\\[lg]|least|most|than|up to|many|much|few|little|under|over|above|below|beyond|exceed|bound|nearly"
    r"|close|just|(?:or|and) (?:more|less|up|high|low|great|above|below)|latest|earliest",
    re.IGNORECASE,
)


def claimed_part(text: str) -> str:
    """Return a sentence without what it denies.

    "72, not 48" is "72, ", and "not 48 but 72" is " but 72". Values that are called wrong go too.
    """
    if not _DENIAL_CUE.search(text):
        return text
    text = _DENIED_CLAUSE.sub(" ", text)
    text = _DENIED_NUMBERS.sub(" ", text)
    text = _REJECTED_NUMBERS.sub(" ", text)
    return _EMPTY_BRACKETS.sub(" ", _DENIED.sub(" ", text))


def denied_part(text: str) -> str:
    """Return what a sentence denies first, without the word that denies it; "" where it denies nothing."""
    denial = _DENIED.search(text)
    return _DENIAL_WORD.sub("", denial[0]).strip() if denial else ""


def rejected_values(value: str, *, plural_counts: bool = False) -> re.Pattern[str]:
    """Return a pattern for values called wrong, with the rest of the clause: "48 is wrong", "(A) and (C) fail".

    Args:
        value: a pattern for one value, without groups.
        plural_counts: whether one value of which "were wrong" is said is a count of things that were wrong.
    """
    more_values = rf"(?:(?:\s?[,/]\s?(?:and\s+|or\s+)?|\s+(?:and|or)\s+){value})"
    several = rf"{value}{more_values}+{_CALLED_WRONG.format(verbs=_ANY_NUMBER)}"
    verbs = _SINGULAR if plural_counts else _ANY_NUMBER
    one = rf"{value}{_CALLED_WRONG.format(verbs=verbs)}"
    return re.compile(rf"(?<![\w.])(?:{several}|{one}){_CLAUSE_REMAINDER}", re.IGNORECASE)


def denied_values(value: str, *, more_denials: str = "never") -> re.Pattern[str]:
    """Return a pattern for a denied list of values, whose commas end no clause: "it can't be A, C or D".

    Args:
        value: a pattern for one value, without groups.
        more_denials: a pattern for other verbs that deny.
    """
    filler = r"(?:\s+(?:be|been|equal|to|the|either|both|any|of|options?|choices?|answers?)){0,5}"
    return re.compile(
        rf"\bnone\s+of\s+(?:the\s+)?{value}(?:\s?,\s?(?:(?:or|and|nor)\s+)?{value}){{0,20}}(?:\s+(?:or|and|nor)\s+{value})?"
        rf"|\b(?:{'|'.join(_DENIALS)}|{more_denials})\b{filler}\s*{value}(?:\s?,\s?{value}){{0,20}}"
        rf"\s?,?\s(?:or|nor|and)\s+{value}",
        re.IGNORECASE,
    )


_DENIED_NUMBERS = denied_values(_NUMBER_VALUE)
_REJECTED_NUMBERS = rejected_values(_NUMBER_VALUE, plural_counts=True)


def has_bound(text: str, *, signs: bool = True) -> bool:
    """Whether a number of the text is given as a bound: "at least 48", "48 or more", `x > 48`.

    Args:
        text: a short text.
        signs: whether signs count beside words; to a verifier of formulas an inequality is an answer.
    """
    if signs and _BOUND_SIGN.search(text):
        return True
    if not _BOUND_CUE.search(text):
        return False
    return bool((_BOUND_WORDS.search(text) and not _NEED.search(text)) or _BOUND_AFTER.search(text))

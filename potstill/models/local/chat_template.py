"""A checkpoint's chat template: turns to text, the same on every day, and the token that ends a turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from datetime import datetime
from typing import Any

from potstill.errors import ModelError
from potstill.records import Message, Prompt

# Arguments of the chat template, by the `chat` option: Qwen3's and its like think unless told not to.
CHAT_TEMPLATE_ARGUMENTS: dict[str, dict[str, bool]] = {
    "auto": {},
    "thinking": {"enable_thinking": True},
    "no-thinking": {"enable_thinking": False},
}
# What a template that prints the date prints. Llama 3's falls back to this day; with today's date, prompts, and so
# completions and weights, would be others tomorrow.
FIXED_DATE = datetime(2024, 7, 26)
DATE_CODES = ("%-d", "%-m", *(f"%{letter}" for letter in "aAbBdHIjmMpSUwWxXcyYZzDFeT"))

# Contents that no template changes.
QUESTION, ANSWER, THOUGHT, FOLLOW_UP = "Question27", "Probe27", "Thought27", "Followup27"


def render_prompt(tokenizer: Any, prompt: Prompt, mode: str = "auto") -> str:
    """The prompt as the model reads it, up to where the answer starts.

    Args:
        mode: a key of CHAT_TEMPLATE_ARGUMENTS.
    """
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    arguments = CHAT_TEMPLATE_ARGUMENTS[mode]
    rendered = apply_template(tokenizer, messages, add_generation_prompt=True, **arguments)
    # A question that the model never sees would be measured, and learnt, all the same. Blanks are the template's
    # business (many strip them), and so is what an assistant thought.
    rendered_characters = "".join(rendered.split())
    for turn in turns:
        if turn.role == "user" and "".join(turn.content.split()) not in rendered_characters:
            raise ModelError(
                f"the chat template of {checkpoint_name(tokenizer)} leaves out or changes what the user says",
                expected="a template that shows the text of a user's turn as it is",
                fix="correct the checkpoint's chat_template.jinja",
            )
    return rendered


def apply_template(tokenizer: Any, turns: list[dict[str, str]], **arguments: bool) -> str:
    """Turns through the template; what the template refuses (many know no system turn) is an error that says so."""
    try:
        template = None
        if prints_date(tokenizer):
            template = _fixed_date_macro() + tokenizer.get_chat_template()
        rendered = tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, **arguments
        )
    except Exception as error:  # boundary: the template is a program that came with the checkpoint
        roles = ", ".join(turn["role"] for turn in turns)
        raise ModelError(
            f"the chat template of {checkpoint_name(tokenizer)} refuses turns of {roles} ({str(error)[:200]})",
            expected="roles that the template knows, in an order that it knows",
            fix="change the prompt's roles, or the checkpoint's chat_template.jinja",
        ) from error
    return str(rendered)


def prints_date(tokenizer: Any) -> bool:
    """Whether the template asks for today's date, and gets FIXED_DATE."""
    return "strftime_now" in str(getattr(tokenizer, "chat_template", None) or "")


def date_note(tokenizer: Any) -> str:
    """What a user should know of a template that prints the date; "" of others."""
    if not prints_date(tokenizer):
        return ""
    return (
        f"the chat template of {checkpoint_name(tokenizer)} prints today's date: it gets {FIXED_DATE:%d %b %Y}, "
        "so that prompts are the same on every day"
    )


def find_turn_ends(tokenizer: Any, control_tokens: Set[str]) -> tuple[int, ...]:
    """The control tokens by which the template closes an assistant's turn; none where it writes none.

    The first is that of a turn in the middle of a conversation, since some templates leave the last one open, or end
    the text behind it.

    Raises:
        ModelError: the template refuses an assistant's turn, or doesn't show its text as it is.
    """
    question, answer = _turn("user", QUESTION), _turn("assistant", ANSWER)
    last_turn = apply_template(tokenizer, [question, answer])
    _, shown, after_last = last_turn.rpartition(ANSWER)
    if not shown:  # any token of the whole text would pass for the end of a turn
        raise ModelError(
            f"the chat template of {checkpoint_name(tokenizer)} leaves out or changes what the assistant says",
            expected=f"a template that shows the text {ANSWER!r} of an assistant's turn as it is",
            fix="correct the checkpoint's chat_template.jinja",
        )
    conversation = _render_if_known(tokenizer, [question, answer, _turn("user", FOLLOW_UP)])
    in_middle = conversation.partition(ANSWER)[2].partition(FOLLOW_UP)[0]
    openers = _tokens_that_open(tokenizer, control_tokens)
    ends: list[int] = []
    for tail in (in_middle, after_last):
        first = next(_control_tokens_in(tokenizer, tail, control_tokens), None)
        if first is None or first in openers:
            continue
        end_id = int(tokenizer.convert_tokens_to_ids(first))
        if end_id not in ends:
            ends.append(end_id)
    return tuple(ends)


def find_answer_blank(tokenizer: Any, mode: str = "auto") -> str:
    """The white space that the template writes between a prompt and an assistant's text; "" where it writes none.

    Templates of Llama-2, Mistral and Zephyr end a prompt without it. What the model writes there begins with it, often
    within its first token.
    """
    prompt = render_prompt(tokenizer, QUESTION, mode)
    turns = [_turn("user", QUESTION), _turn("assistant", ANSWER)]
    whole = _render_if_known(tokenizer, turns, **CHAT_TEMPLATE_ARGUMENTS[mode])
    before, found, _ = whole.removeprefix(prompt).partition(ANSWER)
    if not whole.startswith(prompt) or not found or before.strip():
        return ""
    return before


def template_tokens(tokenizer: Any, special_tokens: Set[str]) -> set[str]:
    """The special tokens that the template writes around turns of plain text."""
    conversation = [_turn("user", QUESTION), _turn("assistant", ANSWER), _turn("user", FOLLOW_UP)]
    written: set[str] = set()
    for turns in ([_turn("system", THOUGHT), *conversation], conversation, conversation[:2]):
        text = _render_if_known(tokenizer, turns, add_generation_prompt=True)
        written.update(_control_tokens_in(tokenizer, text, special_tokens))
    return written


def checkpoint_name(tokenizer: Any) -> str:
    """The folder that a tokenizer was loaded from, as far as it knows."""
    return str(getattr(tokenizer, "name_or_path", "") or "the checkpoint")


def _fixed_date_macro() -> str:
    """A template's own `strftime_now`: the library takes no functions as values, and its own knows today only."""
    replacements = "".join(
        f" | replace({code!r}, {FIXED_DATE.strftime(code)!r})" for code in DATE_CODES
    )
    return "{%- macro strftime_now(format) -%}{{ format" + replacements + " }}{%- endmacro -%}"


def _tokens_that_open(tokenizer: Any, control_tokens: Set[str]) -> set[str]:
    """Control tokens that begin a turn, or a part of one, so that none of them ends it."""
    question = [_turn("user", QUESTION)]
    plain = _render_if_known(tokenizer, question)
    prompted = _render_if_known(tokenizer, question, add_generation_prompt=True)
    openers: set[str] = set()
    if prompted.startswith(plain):
        openers.update(_control_tokens_in(tokenizer, prompted[len(plain) :], control_tokens))
    before_question = plain.partition(QUESTION)[0]
    openers.update([*_control_tokens_in(tokenizer, before_question, control_tokens)][-1:])

    # Templates of channels (gpt-oss) close the thought and the reply of one turn apart.
    thinking = {**_turn("assistant", ANSWER), "reasoning_content": THOUGHT}
    whole = _render_if_known(tokenizer, [*question, thinking])
    _, thought, behind_thought = whole.partition(THOUGHT)
    between, answer, _ = behind_thought.partition(ANSWER)
    if thought and answer:
        openers.update(_control_tokens_in(tokenizer, between, control_tokens))
    return openers


def _render_if_known(tokenizer: Any, turns: list[dict[str, str]], **arguments: bool) -> str:
    """The rendered turns; "" where the template knows no such conversation, and so writes nothing around it."""
    try:
        return apply_template(tokenizer, turns, **arguments)
    except ModelError:
        return ""


def _control_tokens_in(tokenizer: Any, text: str, control_tokens: Set[str]) -> Iterator[str]:
    ids: Iterable[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    for token_id in ids:
        token = str(tokenizer.convert_ids_to_tokens(token_id))
        if token in control_tokens:
            yield token


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}

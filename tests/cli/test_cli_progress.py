"""Progress: rates count what was done now, lines come now and then, and --quiet is quiet."""

from __future__ import annotations

import io

from potstill.cli.progress import Pace, ProgressLines, show_progress
from potstill.models.model import Traffic
from potstill.runs.run_log import format_duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rate_counts_only_what_was_made_now() -> None:
    pace = Pace(100.0)
    pace.update(40, 100, 100.0)
    assert pace.describe(100.0) == ""
    pace.update(60, 100, 110.0)
    assert pace.describe(110.0) == "2.0/s, 20 s left"
    pace.update(100, 100, 130.0)
    assert pace.describe(130.0) == "took 30 s"


def test_a_second_pass_begins_anew() -> None:
    pace = Pace(0.0)
    pace.update(0, 10, 0.0)
    pace.update(10, 10, 100.0)
    pace.update(0, 10, 100.0)
    pace.update(5, 10, 110.0)
    assert pace.describe(110.0) == "30.0/min, 10 s left"


def test_what_is_there_already_is_said_so() -> None:
    pace = Pace(0.0)
    pace.update(7, 7, 0.0)
    assert pace.describe(0.0) == "kept from before"


def test_lines_are_occasional() -> None:
    stream, now = io.StringIO(), [0.0]
    lines = ProgressLines(stream, lambda: now[0])
    for done in range(0, 101):
        now[0] = done / 4
        lines("sft/teacher", done, 100)
    lines("sft/teacher", 100, 100)
    assert stream.getvalue().splitlines() == [
        "sft/teacher: 40 of 100  4.0/s, 15 s left",
        "sft/teacher: 80 of 100  4.0/s, 5 s left",
        "sft/teacher: 100 of 100  took 25 s",
    ]


def test_what_takes_long_still_gives_signs_of_life() -> None:
    stream, now = io.StringIO(), [0.0]
    lines = ProgressLines(stream, lambda: now[0])
    for beat in range(
        0, 36
    ):  # a batch: nothing comes for three minutes, and the server says what it is through with
        now[0] = beat * 5.0
        lines("sft/teacher", 0 if beat < 30 else 3, 7)
    assert stream.getvalue().splitlines() == [
        "sft/teacher: 0 of 7  for 50 s",
        "sft/teacher: 0 of 7  for 1:40",
        "sft/teacher: 3 of 7  1.2/min, 3:20 left",
    ]


def test_quiet_draws_nothing() -> None:
    stream = Terminal()
    with show_progress(True, stream) as progress:
        progress("x", 1, 2)
    assert stream.getvalue() == ""


def test_a_terminal_gets_bars() -> None:
    stream = Terminal()
    with show_progress(False, stream) as progress:
        progress("[b]sft/teacher", 1, 4)
        progress("[b]sft/teacher", 4, 4)
    assert "[b]sft/teacher" in stream.getvalue() and "4/4" in stream.getvalue()


def test_durations() -> None:
    assert [format_duration(s) for s in (0.4, 59.4, 245, 7384)] == [
        "0 s",
        "59 s",
        "4:05",
        "2:03:04",
    ]


def test_in_a_run_only_long_counts_and_announced_steps_have_lines() -> None:
    stream, now = io.StringIO(), [0.0]
    lines = ProgressLines(stream, lambda: now[0])
    lines.announce("arm orion; 30 problems")
    for call in range(30):  # inside `each`: a count a call
        now[0] = call * 1.0
        lines("orion/student", 0, 1)
        lines.count_answers("orion/student", 1)
        lines("orion/student", 1, 1)
    lines.announce("orion: each search  30 → 30  30 s")
    first, *middle, last = stream.getvalue().splitlines()
    assert (first, last) == ("arm orion; 30 problems", "orion: each search  30 → 30  30 s")
    assert middle == [
        "orion/student: 10 answers so far  1.0/s",
        "orion/student: 20 answers so far  1.0/s",
    ]


def test_tokens_of_a_batch_are_signs_of_life() -> None:
    stream, now = io.StringIO(), [0.0]
    lines = ProgressLines(stream, lambda: now[0])
    for second in range(0, 31):
        now[0] = float(second)
        if second:
            lines.count_tokens("sft/student", 200)
        lines("sft/student", second // 25 * 30, 64)
    assert stream.getvalue().splitlines() == [
        "sft/student: 0 of 64  for 10 s; 2,000 tokens, 200/s",
        "sft/student: 0 of 64  for 20 s; 4,000 tokens, 200/s",
        "sft/student: 30 of 64  for 30 s; 6,000 tokens, 200/s",
    ]


def test_once_a_batch_is_stored_its_tokens_say_how_long_the_others_take() -> None:
    """Half of 40 answers were there; ten come in 1,000 tokens, and few rows of the second batch have ended yet."""
    pace = Pace(0.0)
    pace.update(20, 40, 0.0)
    pace.tokens += 1000
    pace.count_answers(10)
    pace.update(30, 40, 10.0)
    assert pace.describe(10.0) == "1.0/s, 10 s left; 1,000 tokens, 100/s"
    pace.tokens += 800
    pace.update(31, 40, 18.0)
    assert pace.describe(18.0) == "33.3/min, 2 s left; 1,800 tokens, 100/s"
    pace.update(0, 7, 18.0)  # another count
    assert pace.describe(23.0) == "1,800 tokens, 78/s"


def test_requests_retries_and_refusals_of_a_server_are_shown() -> None:
    stream, now = io.StringIO(), [0.0]
    lines = ProgressLines(stream, lambda: now[0])
    for second in range(0, 21):
        now[0] = float(second)
        # The server refuses half of the tries, from the 100th on.
        lines.show_traffic("sft/teacher", Traffic(100 + 4 * second, 2 * second, second))
        lines("sft/teacher", 2 * second, 100)
    assert stream.getvalue().splitlines() == [
        "sft/teacher: 20 of 100  2.0/s, 40 s left; 4.0 requests/s, 20 retries, 10 x 429",
        "sft/teacher: 40 of 100  2.0/s, 30 s left; 4.0 requests/s, 40 retries, 20 x 429",
    ]

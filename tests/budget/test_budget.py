"""The budget: what is reserved before a call leaves, what settles, what is lost, what stops, what is said."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.budget.amounts import Amount, Limit, prompt_token_bound, to_picodollars
from potstill.budget.budget import Budget
from potstill.budget.prices import Price
from potstill.errors import ConfigError
from potstill.models.model import Attempt, Completion, Request, Sampling
from potstill.records import Message, Tokens

TABLE = {"paid": Price(1.0, 2.0, cached=0.5, reasoning=3.0)}


class Paid:
    """A remote model, by what the budget asks of it."""

    def __init__(self, priced: str = "paid", name: str = "m") -> None:
        self.id, self.priced = f"model-{name}", priced


class Free:
    id = "model-free"


class CallLog:
    def __init__(self) -> None:
        self.open: dict[str, tuple[int, float]] = {}

    def record_intents(self, intents) -> None:
        for intent in intents:
            self.open[intent.key] = (intent.tokens, intent.cost)

    def withdraw_intents(self, keys) -> None:
        for key in keys:
            del self.open[key]


def request(sample_index: int = 0, max_new_tokens: int = 100, prompt: str = "Why?") -> Request:
    return Request(
        prompt, sampling=Sampling(max_new_tokens=max_new_tokens), sample_index=sample_index
    )


def within(budget: Budget) -> None:
    spent, reserved = budget.spent_by_role(), budget.reserved_by_role()
    for name, limit in budget.limits.items():
        total = spent.get(name, Amount()).plus(reserved.get(name, Amount()))
        assert not limit.tokens or total.tokens <= limit.tokens
        assert not limit.money or total.picodollars <= to_picodollars(limit.money)


# --- any interleaving


STEP = st.tuples(
    st.sampled_from(["enter", "enter", "enter", "lost", "settle", "release"]),
    st.integers(0, 9),
    st.sampled_from(["teacher", "judge"]),
    st.just(0) | st.integers(0, 100),
    st.integers(0, 100),
)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(STEP, max_size=60),
    run=st.builds(Limit, st.sampled_from([0, 500, 2000]), st.sampled_from([0.0, 0.0006, 0.002])),
    teacher=st.builds(Limit, st.sampled_from([0, 400, 900]), st.sampled_from([0.0, 0.0005, 0.001])),
    before=st.integers(0, 900),
)
def test_spent_and_reserved_never_exceed_a_limit(steps, run, teacher, before):
    limits = {"": run, "teacher": teacher}
    # What an earlier process spent may already exceed a limit that was made smaller; then nothing may go.
    budget = Budget(
        limits,
        prices=TABLE,
        spent={"teacher": Amount(before, to_picodollars(before / 1e6))},
        call_log=CallLog(),
    )
    model = Paid()
    permits = {role: budget.permit(role, model, "arm") for role in ("teacher", "judge")}
    allowed = not any(
        (limit.tokens and before > limit.tokens) or (limit.money and before / 1e6 > limit.money)
        for limit in (run, teacher)
    )
    under_way: set[tuple[str, int]] = set()
    for what, which, role, part, share in steps:
        asked = request(which, max_new_tokens=10 + which * 10)
        key = (role, which)
        if what == "enter":
            answer = permits[role].reserve(asked)
            if answer == "go":
                under_way.add(key)
            assert allowed or answer != "go" or role == "judge"
        elif key in under_way and what == "lost":
            tokens = (
                Tokens(
                    min(part, prompt_token_bound(asked)),
                    share * asked.sampling.max_new_tokens // 100,
                )
                if part
                else Tokens()
            )
            permits[role].record_failed_try(
                asked, Attempt("timeout: late", tokens, billed=share % 2 == 0)
            )
            under_way.discard(key)  # a second try has to enter again
        elif key in under_way and what == "settle":
            tokens = Tokens(
                min(part, prompt_token_bound(asked)),
                share * asked.sampling.max_new_tokens // 100,
                reasoning=share // 3,
            )
            budget.settle(role, model, asked, Completion("x", tokens=tokens))
            under_way.discard(key)
        elif key in under_way and what == "release":
            budget.release(role, model, [asked])
            under_way.discard(key)
        if allowed:
            within(budget)


@pytest.mark.slow
@settings(deadline=None)
@given(
    uses=st.lists(
        st.tuples(st.integers(0, 130), st.integers(1, 100), st.booleans()), min_size=1, max_size=30
    ),
    limit=st.integers(300, 5000),
)
def test_what_was_reserved_is_free_again_when_all_is_settled(uses, limit):
    call_log = CallLog()
    budget = Budget({"": Limit(limit, 0.01)}, prices=TABLE, call_log=call_log)
    model, total = Paid(), Amount()
    permit = budget.permit("teacher", model, "arm")
    for draw, (prompt, completion, billed) in enumerate(uses):
        if permit.reserve(request(draw)) != "go":
            break
        permit.record_failed_try(
            request(draw), Attempt("server: 500", Tokens(prompt, 1), billed=billed)
        )
        lost = (
            Amount(prompt + 1, to_picodollars((prompt * 1 + 1 * 2) / 1e6)) if billed else Amount()
        )
        if billed and not prompt:
            lost = Amount(1, to_picodollars(2e-6))
        total = total.plus(lost)
        if permit.reserve(request(draw)) == "go":
            done = budget.settle(
                "teacher", model, request(draw), Completion("x", tokens=Tokens(prompt, completion))
            )
            assert done.cost == pytest.approx((prompt + 2 * completion) / 1e6)
            total = total.plus(Amount(prompt + completion, to_picodollars(done.cost)))
    assert budget.spent_by_role()["teacher"] == total
    assert budget.spent_by_role()[""] == total
    assert budget.reserved_by_role()[""].tokens in (0, prompt_token_bound(request()) + 100)


# --- the three answers


def test_a_call_waits_while_others_may_leave_enough_and_stops_when_nothing_can():
    worst = prompt_token_bound(request()) + 100
    budget = Budget({"": Limit(tokens=2 * worst - 1)}, prices=TABLE)
    model = Paid()
    permit = budget.permit("teacher", model, "arm")
    assert permit.reserve(request(0)) == "go"
    assert permit.reserve(request(0)) == "go"  # it is tried again: no second reservation
    assert budget.reserved_by_role()[""].tokens == worst
    assert permit.reserve(request(1)) == "wait"
    budget.settle("teacher", model, request(0), Completion("x", tokens=Tokens(5, 5)))
    assert permit.reserve(request(1)) == "go"
    budget.settle("teacher", model, request(1), Completion("x", tokens=Tokens(50, 100)))
    assert permit.reserve(request(2)) == "go"
    budget.settle("teacher", model, request(2), Completion("x", tokens=Tokens(50, 100)))
    assert permit.reserve(request(3)) == "stop"
    # A shorter request that would fit stops too: what is left undone does not depend on its length.
    assert permit.reserve(request(4, max_new_tokens=1, prompt="")) == "stop"
    assert budget.permit("judge", model, "arm").reserve(request(5, max_new_tokens=10**6)) == "stop"


def test_a_role_has_its_own_limit_beside_the_run():
    worst = prompt_token_bound(request()) + 100
    budget = Budget({"teacher": Limit(tokens=worst), "": Limit(tokens=10 * worst)}, prices=TABLE)
    model = Paid()
    assert budget.permit("teacher", model, "a").reserve(request(0)) == "go"
    assert budget.permit("teacher", model, "b").reserve(request(1)) == "wait"
    assert budget.permit("judge", model, "a").reserve(request(1)) == "go"


def test_spent_before_counts_and_leaves_only_the_rest():
    worst = prompt_token_bound(request()) + 100
    for before, answer in ((0, "go"), (1, "stop")):
        budget = Budget({"": Limit(tokens=worst)}, prices=TABLE, spent={"teacher": Amount(before)})
        assert budget.permit("judge", Paid(), "arm").reserve(request()) == answer


# --- what is settled


def test_costs_are_filled_in_from_the_prices_and_the_rate():
    budget = Budget(prices=TABLE)
    tokens = Tokens(1000, 500, cached=400, reasoning=100)
    done = budget.settle("teacher", Paid(), request(), Completion("x", tokens=tokens, rate=0.5))
    assert done.cost == pytest.approx(0.5 * (600 * 1 + 400 * 0.5 + 400 * 2 + 100 * 3) / 1e6)
    said = budget.settle("teacher", Paid(), request(1), Completion("x", tokens=tokens, cost=0.25))
    assert said.cost == 0.25
    assert budget.settle("student", Free(), request(), Completion("x", tokens=tokens)).cost is None
    assert budget.spent_by_role()["student"] == Amount(1500, 0)
    assert budget.spent_by_role()["teacher"].money == pytest.approx(0.25 + done.cost)


def test_a_try_that_may_have_been_billed_counts_at_its_worst_and_only_once():
    budget = Budget({"": Limit(tokens=100_000)}, prices=TABLE, call_log=(call_log := CallLog()))
    model, asked = Paid(), request()
    permit = budget.permit("teacher", model, "arm")
    assert permit.reserve(asked) == "go"
    late = Attempt("timeout: no answer", billed=True)
    permit.record_failed_try(asked, late)
    worst = prompt_token_bound(asked) + 100
    assert budget.spent_by_role()[""].tokens == worst
    key = asked.key(model.id)
    assert call_log.open[key][0] == worst  # the dead try alone, until it is sent again
    assert permit.reserve(asked) == "go"
    assert call_log.open[key][0] == 2 * worst
    done = budget.settle(
        "teacher", model, asked, Completion("x", tokens=Tokens(10, 10), tries=(late,))
    )
    assert budget.spent_by_role()[""].tokens == worst + 20
    assert done.tries[0].tokens.prompt == worst
    assert done.tries[0].cost == pytest.approx((prompt_token_bound(asked) * 1 + 100 * 3) / 1e6)
    assert not any(budget.reserved_by_role()[""])


def test_a_lost_try_keeps_its_place_only_where_another_at_its_worst_fits():
    worst = prompt_token_bound(request()) + 100
    for limit, answer in ((worst * 3 // 2, "stop"), (worst * 2, "go")):
        budget = Budget({"teacher": Limit(tokens=limit), "": Limit(tokens=10**6)}, prices=TABLE)
        permit = budget.permit("teacher", Paid(), "arm")
        assert permit.reserve(request()) == "go"
        permit.record_failed_try(request(), Attempt("timeout: no answer", billed=True))
        within(budget)
        assert permit.reserve(request()) == answer


def test_tries_that_only_the_completion_tells_of_count_too():
    budget = Budget(prices=TABLE)
    tried = Attempt("empty: no text", Tokens(10, 5), billed=True)
    free = Attempt("rate: 429", Tokens(), billed=False)
    budget.settle(
        "teacher", Paid(), request(), Completion("x", tokens=Tokens(10, 10), tries=(tried, free))
    )
    assert budget.spent_by_role()[""].tokens == 35


def test_a_try_that_cost_nothing_leaves_the_journal():
    budget = Budget({"": Limit(tokens=1000)}, prices=TABLE, call_log=(call_log := CallLog()))
    permit = budget.permit("teacher", Paid(), "arm")
    permit.reserve(request())
    assert call_log.open
    permit.record_failed_try(request(), Attempt("rate: 429"))
    assert not call_log.open


def test_a_server_that_bills_more_than_it_was_allowed_to_is_reported():
    budget = Budget({"": Limit(tokens=10_000)}, prices=TABLE)
    model = Paid()
    budget.permit("teacher", model, "arm").reserve(request())
    budget.settle("teacher", model, request(), Completion("x", tokens=Tokens(5, 900)))
    assert budget.spent_by_role()[""].tokens == 905
    assert len(budget.excesses) == 1
    assert "teacher: model-m went" in budget.excesses[0]
    assert budget.notes() == budget.excesses
    for draw in range(1, 9):
        budget.permit("teacher", model, "arm").reserve(request(draw))
        budget.settle("teacher", model, request(draw), Completion("x", tokens=Tokens(5, 900)))
    assert len(budget.notes()) == 4 and "6 more calls" in budget.notes()[-1]


# --- prices that are missing


def test_money_can_not_be_limited_without_a_price_but_tokens_can():
    unknown = Paid("some-model")
    with pytest.raises(ConfigError, match="price of the model 'some-model' is not known"):
        Budget({"": Limit(money=1)}, prices=TABLE).permit("teacher", unknown, "arm")
    with pytest.raises(ConfigError, match="--prices"):
        Budget({"teacher": Limit(money=1)}, prices=TABLE).permit("teacher", unknown, "arm")
    assert (
        Budget({"judge": Limit(money=1)}, prices=TABLE)
        .permit("teacher", unknown, "arm")
        .reserve(request())
        == "go"
    )
    assert (
        Budget({"": Limit(tokens=999)}, prices=TABLE)
        .permit("teacher", unknown, "arm")
        .reserve(request())
        == "go"
    )
    assert (
        Budget({"": Limit(money=1)}, prices=TABLE)
        .permit("student", Free(), "arm")
        .reserve(request())
        == "go"
    )


def test_a_server_on_this_machine_is_free_unless_the_user_says_otherwise():
    here = Paid("gpt-4o")
    here.local = True
    budget = Budget({"": Limit(money=0.5)})
    assert budget.permit("teacher", here, "arm").reserve(request()) == "go"
    assert (
        budget.settle("teacher", here, request(), Completion("x", tokens=Tokens(9, 9))).cost is None
    )
    assert (
        Budget()
        .settle("teacher", Paid("gpt-4o"), request(), Completion("x", tokens=Tokens(9, 9)))
        .cost
        > 0
    )
    mine = Budget(prices={"gpt-4o": Price(1.0, 1.0)})
    assert mine.settle(
        "teacher", here, request(), Completion("x", tokens=Tokens(9, 9))
    ).cost == pytest.approx(18e-6)


# --- batches of models that are not streamed


def test_a_batch_is_reserved_as_a_whole_or_not_at_all():
    worst = prompt_token_bound(request()) + 100
    budget = Budget({"": Limit(tokens=3 * worst)}, prices=TABLE)
    model = Free()
    batch = [request(i) for i in range(4)]
    assert not budget.reserve_batch("student", model, "arm", batch)
    assert not any(budget.reserved_by_role()[""])
    assert budget.reserve_batch("student", model, "arm", batch[:3])
    assert budget.reserved_by_role()[""].tokens == 3 * worst
    for one in batch[:3]:
        budget.settle("student", model, one, Completion("x", tokens=Tokens(3, 4)))
    assert budget.spent_by_role()["student"].tokens == 21
    budget.release("student", model, batch)  # nothing of it is held any more
    assert not any(budget.reserved_by_role()[""])


def test_a_batch_waits_for_another_threads_calls():
    worst = prompt_token_bound(request()) + 100
    budget = Budget({"": Limit(tokens=worst + 50)}, prices=TABLE)
    model = Free()
    assert budget.reserve_batch("student", model, "arm", [request(0)])
    answers: list[bool] = []
    thread = threading.Thread(
        target=lambda: answers.append(budget.reserve_batch("student", model, "arm", [request(1)]))
    )
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    budget.settle("student", model, request(0), Completion("x", tokens=Tokens(3, 4)))
    thread.join(5)
    assert answers == [True]


def test_many_threads_never_overshoot():
    worst = prompt_token_bound(request()) + 100
    limit = 20 * worst
    budget = Budget({"": Limit(tokens=limit, money=1.0)}, prices=TABLE, call_log=CallLog())
    model, most, gone = Paid(), [], []

    def work(number: int) -> None:
        permit = budget.permit("teacher", model, f"arm{number}")
        for draw in range(60):
            asked = replace(request(draw), seed=number)
            while (answer := permit.reserve(asked)) == "wait":
                pass
            if answer == "stop":
                return
            gone.append(asked)
            most.append(budget.spent_by_role()[""].plus(budget.reserved_by_role()[""]).tokens)
            budget.settle("teacher", model, asked, Completion("x", tokens=Tokens(20, 50)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    spent = budget.spent_by_role()[""].tokens
    assert spent == 70 * len(gone)
    assert limit - worst < spent <= limit
    assert (
        max(most) <= 2 * limit
    )  # two reads, between which others may move; each alone is within the limit
    within(budget)


# --- what is said


def test_the_error_says_what_is_done_what_is_left_and_how_to_go_on():
    budget = Budget({"teacher": Limit(money=0.5), "": Limit(tokens=10**9)}, prices=TABLE)
    budget.settle(
        "teacher", Paid(), request(), Completion("x", tokens=Tokens(1000, 900), cost=0.4999)
    )
    budget.settle("student", Free(), request(), Completion("x", tokens=Tokens(10, 5)))
    error = budget.spent_error("teacher", "sft", done=7, total=20)
    text = error.render()
    assert "the budget of the teacher is spent: 0.4999 of 0.5 USD" in text
    assert "sft/teacher: 7 of 20 completions of this call are there, 13 are left" in text
    assert "student 15 tokens; teacher 1,900 tokens, 0.4999 USD" in text
    assert "--budget teacher=1usd" in text
    assert error.larger == "teacher=1usd"


def test_the_bound_is_above_what_any_tokenizer_makes_of_a_text():
    assert prompt_token_bound(Request("é€😀")) >= 2 + 3 + 4
    assert prompt_token_bound(Request("\ud800")) >= 3
    chat = Request((Message("system", "abc"), Message("user", "defg")), prefix="xy")
    assert prompt_token_bound(chat) >= 9 + 3 * 4


def test_a_text_without_token_counts_is_paid_at_its_worst():
    asked = request()
    for said in (Tokens(), Tokens(prompt=7)):
        budget = Budget({"": Limit(tokens=10_000)}, prices=TABLE)
        model = Paid()
        assert budget.permit("teacher", model, "arm").reserve(asked) == "go"
        held = budget.reserved_by_role()[""]
        done = budget.settle("teacher", model, asked, Completion("some text", tokens=said))
        prompt = said.prompt or prompt_token_bound(asked)
        assert done.tokens == Tokens(prompt, 100)
        assert done.cost == pytest.approx((prompt + 2 * 100) / 1e6)
        assert budget.spent_by_role()[""].tokens == prompt + 100 <= held.tokens
        assert budget.reserved_by_role()[""].tokens == 0
        [note] = budget.notes()
        assert "model-m does not say what it uses: 1 answers" in note


@pytest.mark.parametrize(
    "made", [Completion("", "", error="refused: 400"), Completion("text", tokens=Tokens(1, 1))]
)
def test_what_was_counted_or_never_answered_is_not_guessed(made):
    budget = Budget({"": Limit(tokens=10_000)}, prices=TABLE)
    assert budget.settle("teacher", Paid(), request(), made).tokens == made.tokens
    assert budget.settle("teacher", Free(), request(), Completion("recorded")).tokens == Tokens()
    assert budget.notes() == []


def test_a_count_that_can_not_be_right_is_counted_at_its_most() -> None:
    budget = Budget({"": Limit(tokens=10**6)}, prices=TABLE)
    completion = Completion("text", "stop", Tokens(0, 5), cost=None, ignored=("prompt_tokens=-5",))
    settled = budget.settle("teacher", Paid(), request(), completion)
    assert settled.tokens == Tokens(prompt_token_bound(request()), 5)
    assert any("prompt_tokens=-5" in note for note in budget.notes())


@pytest.mark.parametrize("money", [float("inf"), float("nan"), -1.0])
def test_a_limit_is_a_number(money: float) -> None:
    with pytest.raises(ConfigError, match="limits are"):
        Limit(money=money)


def test_no_amount_of_money_is_too_large_to_count() -> None:
    assert to_picodollars(1e300) == to_picodollars(1e12) > to_picodollars(1e11)
    assert to_picodollars(-5) == 0

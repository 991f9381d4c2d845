"""Flow control, in virtual time: laws over random traffic, and how it meets a busy server."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run

from potstill.models.remote.errors import Failure
from potstill.models.remote.flow_control import FlowControl
from potstill.models.remote.rate_limit import MINUTE, ConcurrencyLimit, RateLimit
from potstill.records import Tokens

BUSY = Failure("rate", "429", may_retry=True, status=429)


def silent(failure, seconds):
    pass


async def still_open():
    return "open"


def now():
    return asyncio.get_running_loop().time()


class Server:
    """Answers after `latency` seconds; refuses a share at random, what exceeds `capacity` at once, all in `down`."""

    def __init__(self, latency=0.05, *, refuse=0.0, capacity=0, down=(0.0, 0.0), seed=0):
        self.latency, self.refuse, self.capacity, self.down = latency, refuse, capacity, down
        self.random = random.Random(seed)
        self.under_way = self.most = self.refused = self.answered = 0
        self.left = []

    async def __call__(self):
        self.left.append(now())
        if (self.capacity and self.under_way >= self.capacity) or self.down[0] <= now() < self.down[
            1
        ]:
            self.refused += 1
            await asyncio.sleep(self.latency / 50)
            raise Failure("server", "503", may_retry=True, status=503)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.under_way -= 1
        if self.random.random() < self.refuse:
            self.refused += 1
            raise BUSY
        self.answered += 1
        return 1


async def drive(flow, server, count):
    """Seconds that `count` calls take; all of them are answered."""
    began = now()
    answers = await asyncio.gather(*(flow.call(server, on_failure=silent) for _ in range(count)))
    assert answers == [1] * count and (flow.in_flight_count, flow.waiting_count) == (0, 0)
    return now() - began


def most_within_a_minute(times, weights=None):
    """The most that left in any span shorter than a minute."""
    weights = weights or [1] * len(times)
    return max(
        (sum(w for t, w in zip(times, weights) if start <= t < start + MINUTE) for start in times),
        default=0,
    )


CALL = st.tuples(
    st.floats(0, 90),  # when it comes
    st.lists(
        st.sampled_from(["ok", "rate", "after", "server", "malformed", "refused", "raise", "hang"]),
        max_size=5,
    ),
    st.floats(0.01, 20),  # how long a try takes
    st.one_of(st.none(), st.floats(0, 100)),  # when its caller gives up
)


@pytest.mark.slow
@settings(deadline=None)
@given(
    calls=st.lists(CALL, max_size=25),
    cap=st.integers(1, 6),
    rpm=st.integers(0, 12),
    seed=st.integers(0, 9),
)
def test_laws_over_random_traffic(calls, cap, rpm, seed):
    flow = FlowControl(
        concurrency=cap, rpm=rpm, timeout=30, deadline=200, random_number=random.Random(seed).random
    )
    left, ended, tries, lost, under_way = [], Counter(), Counter(), Counter(), [0]

    async def send(number, plan, seconds):
        under_way[0] += 1
        assert under_way[0] <= cap
        left.append(now())
        what = plan[tries[number]] if tries[number] < len(plan) else "ok"
        tries[number] += 1
        try:
            await asyncio.sleep(1e6 if what == "hang" else seconds)
        finally:
            under_way[0] -= 1
        if what == "raise":
            raise KeyError(number)
        if what == "after":
            raise Failure("rate", "later", may_retry=True, status=429, retry_after=15.0)
        if what != "ok":
            raise Failure(
                what, "x", may_retry=what != "refused", status=503 if what == "server" else 0
            )
        return number

    async def call(number, arrival, plan, seconds, patience):
        await asyncio.sleep(arrival)
        count = lambda failure, seconds: lost.update([number])  # noqa: E731
        task = asyncio.create_task(flow.call(lambda: send(number, plan, seconds), on_failure=count))
        if patience is not None:
            asyncio.get_running_loop().call_later(patience, task.cancel)
        try:
            assert await task == number
            ended[number] += 1
        except (Failure, KeyError):
            ended[number] += 1
        except asyncio.CancelledError:
            ended[number] += 1
            return
        # Each try that failed was told once: all but the last to `lost`, the last by how the call ended.
        assert lost[number] in (tries[number] - 1, tries[number])

    async def main():
        await asyncio.gather(*(call(i, *c) for i, c in enumerate(calls)))
        assert (flow.in_flight_count, flow.waiting_count) == (0, 0)
        assert await asyncio.wait_for(flow.call(still_open, on_failure=silent), 400) == "open"

    run(main())
    assert ended == Counter(range(len(calls)))
    assert not rpm or most_within_a_minute(left) <= rpm


@settings(deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.floats(0, 200), st.integers(1, 400), st.integers(1, 400)),
        min_size=1,
        max_size=30,
    ),
    tpm=st.integers(400, 1000),
)
def test_tokens_within_a_minute(calls, tpm):
    """Nothing leaves that could exceed the limit; the weight is the most that a call uses."""
    flow, left, known = FlowControl(tpm=tpm), [], {}

    async def call(number, arrival, weight, used):
        async def send():
            recent = [n for n, when in left if when > now() - MINUTE]
            assert sum(known[n] for n in recent) + weight <= tpm
            left.append((number, now()))
            known[number] = weight
            await asyncio.sleep(1)
            known[number] = min(used, weight)
            return known[number]

        await asyncio.sleep(arrival)
        await flow.call(
            send, weight=weight, on_failure=silent, count_used_tokens=lambda answer: answer
        )

    async def main():
        await asyncio.gather(*(call(i, *c) for i, c in enumerate(calls)))

    run(main())
    assert sorted(n for n, _ in left) == list(range(len(calls)))


def test_a_call_larger_than_the_tokens_of_a_minute_goes_alone():
    async def main():
        flow, server = FlowControl(tpm=10), Server()
        await asyncio.gather(*(flow.call(server, weight=w, on_failure=silent) for w in (50, 1, 50)))
        assert server.left == pytest.approx([0.0, 60.5, 121.0])

    run(main())


def test_unused_tokens_are_given_back_and_a_refused_call_used_none():
    async def main():
        flow = FlowControl(tpm=100, random_number=lambda: 1.0)
        server = Server(0.0)
        for _ in range(10):
            await flow.call(
                server, weight=90, on_failure=silent, count_used_tokens=lambda answer: 1
            )
        assert server.left == [0.0] * 10
        for _ in range(2):
            with pytest.raises(Failure):
                await flow.call(failing("refused", may_retry=False), weight=90, on_failure=silent)
        assert now() == 0.0
        for _ in range(2):
            with pytest.raises(Failure):
                await flow.call(failing("timeout", billed=True), weight=90, on_failure=silent)
        assert now() == 60.5, "one that may have been paid counts with all that it may have used"

    run(main())


def test_a_pace_without_limit_never_waits():
    rate_limit = RateLimit(0)
    assert [rate_limit.opening_time(t, 10**9) for t in (0.0, 1.0)] == [0.0, 1.0]
    rate_limit.correct(rate_limit.record(1.0, 5), 7)


def failing(kind, **how):
    async def send():
        raise Failure(kind, "x", **how)

    return send


def test_calls_leave_in_their_order_and_a_new_try_goes_first():
    order = []

    async def main():
        flow, failed = FlowControl(concurrency=1, random_number=lambda: 1.0), []

        async def send(number):
            order.append(number)
            await asyncio.sleep(1)
            if number == 1 and not failed:
                failed.append(1)
                raise BUSY
            return number

        def call(number):
            return flow.call(lambda: send(number), on_failure=silent)

        assert await asyncio.gather(*map(call, range(6))) == list(range(6))

    run(main())
    assert order == [0, 1, 2, 1, 3, 4, 5]


def test_a_waiting_try_holds_no_slot():
    async def main():
        flow, tries = FlowControl(concurrency=1, random_number=lambda: 1.0), []

        async def once_busy():
            tries.append(now())
            if len(tries) == 1:
                raise Failure("rate", "x", may_retry=True, status=429)
            return "second"

        slow = asyncio.create_task(flow.call(once_busy, on_failure=silent))
        await asyncio.sleep(0)
        assert (flow.in_flight_count, len(tries)) == (0, 1)
        assert await flow.call(still_open, on_failure=silent) == "open"
        assert now() == 0.0
        assert await slow == "second" and now() > 0

    run(main())


def test_until_the_deadline_and_not_beyond():
    async def main():
        flow, told = FlowControl(deadline=100, random_number=random.Random(1).random), []
        with pytest.raises(Failure, match="unreachable: no route") as last:
            await flow.call(
                down, on_failure=lambda failure, seconds: told.append((failure, seconds))
            )
        assert 40 < now() <= 101
        assert len(told) == tries[0] - 1 > 5 and last.value not in [failure for failure, _ in told]
        assert [seconds for _, seconds in told] == pytest.approx([1.0] * len(told))

    tries = [0]

    async def down():
        tries[0] += 1
        await asyncio.sleep(1)
        raise Failure("unreachable", "no route", may_retry=True)

    run(main())


def test_a_try_that_hangs_is_a_timeout_that_may_have_been_paid():
    async def main():
        flow, told = (
            FlowControl(timeout=5, deadline=60, max_paid_tries=2, random_number=lambda: 0.0),
            [],
        )

        async def hang():
            await asyncio.Event().wait()

        with pytest.raises(Failure, match="timeout: no whole answer within 5 s") as last:
            await flow.call(
                hang, on_failure=lambda failure, seconds: told.append((str(failure), seconds))
            )
        assert last.value.billed and now() == 10.0
        assert told == [("timeout: no whole answer within 5 s", 5.0)]

    run(main())


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (Failure("malformed", "x", may_retry=True, billed=True), 3),
        (Failure("timeout", "x", may_retry=True, billed=True), 3),
        (Failure("refused", "x", status=400), 1),
        (Failure("refused", "wrong key", stops_run=True, may_retry=True, status=401), 1),
    ],
)
def test_tries_that_may_have_to_be_paid_can_be_limited(failure, tries):
    count = [0]

    async def send():
        count[0] += 1
        raise failure

    async def main():
        with pytest.raises(Failure) as last:
            await FlowControl(max_paid_tries=3).call(send, on_failure=silent)
        assert last.value is failure

    run(main())
    assert count == [tries]


@pytest.mark.parametrize(
    "failure",
    [
        Failure("server", "x", may_retry=True, status=500),
        Failure("server", "an error in an answer", may_retry=True),
        Failure("malformed", "x", may_retry=True, billed=True),
        Failure("timeout", "x", may_retry=True, billed=True),
        Failure("unreachable", "reset", may_retry=True, billed=True),
    ],
    ids=str,
)
def test_whatever_may_pass_is_waited_for_until_the_deadline(failure):
    async def main():
        flow = FlowControl(deadline=600, random_number=random.Random(2).random)

        async def bad_for_five_minutes():
            if now() < 300:
                raise failure
            return "good"

        assert await flow.call(bad_for_five_minutes, on_failure=silent) == "good"
        assert 300 <= now() < 600

    run(main())


def test_where_all_calls_fail_the_server_is_left_in_peace_whatever_the_code():
    async def tries_of(failure):
        flow, tries = FlowControl(random_number=random.Random(5).random), []

        async def send():
            tries.append(now())
            await asyncio.sleep(0.05)
            if now() < 60:
                raise failure
            return 1

        await asyncio.gather(*(flow.call(send, on_failure=silent) for _ in range(500)))
        return len(tries)

    as_busy = run(tries_of(Failure("server", "x", may_retry=True, status=503)))
    broken = run(tries_of(Failure("server", "x", may_retry=True, status=500)))
    assert broken < 1.5 * as_busy


def test_failures_of_single_requests_slow_nobody_down():
    async def main():
        flow = FlowControl(concurrency=16, random_number=random.Random(6).random)
        chance = random.Random(7)

        async def send():
            await asyncio.sleep(0.05)
            if chance.random() < 0.2:
                raise Failure("malformed", "x", may_retry=True, billed=True)
            return 1

        await asyncio.gather(*(flow.call(send, on_failure=silent) for _ in range(1000)))
        return flow.limit

    assert run(main()) == 16


def test_no_call_leaves_before_the_server_wants_it():
    async def main():
        flow, left = FlowControl(concurrency=4, random_number=lambda: 0.0), []

        async def send(number):
            left.append((number, now()))
            await asyncio.sleep(0.1)
            if number == 0 and len(left) <= 4:
                raise Failure("rate", "x", may_retry=True, status=429, retry_after=30.0)
            return number

        began = [
            asyncio.create_task(flow.call(lambda n=n: send(n), on_failure=silent))
            for n in range(10)
        ]
        assert await asyncio.gather(*began) == list(range(10))
        assert [when for _, when in left[:4]] == [0.0] * 4
        assert min(when for _, when in left[4:]) == pytest.approx(30.1)
        assert left[4][0] in (0, 4)

    run(main())


def test_a_server_that_wants_a_year_is_left_at_once_and_the_others_wait_no_longer_than_the_deadline():
    async def main():
        flow = FlowControl(deadline=50)
        with pytest.raises(Failure, match="rate: x"):
            await flow.call(
                failing("rate", may_retry=True, status=429, retry_after=3e7), on_failure=silent
            )
        assert now() == 0.0
        assert await flow.call(still_open, on_failure=silent) == "open"
        assert now() == 50.0

    run(main())


def test_a_try_that_gets_no_turn_before_its_deadline_ends_there():
    async def main():
        flow, told = FlowControl(concurrency=2, deadline=20, random_number=lambda: 0.0), []

        async def first():
            await asyncio.sleep(0 if told else 1)
            raise Failure("malformed", "x", may_retry=True, billed=True, tokens=Tokens(1, 2))

        async def other():
            raise Failure("rate", "x", may_retry=True, status=429, retry_after=19.0)

        async def late():
            await asyncio.sleep(2)
            await asyncio.gather(
                *(flow.call(lambda: asyncio.sleep(500), on_failure=silent) for _ in range(2))
            )

        slow = asyncio.create_task(late())
        calls = (
            flow.call(other, on_failure=silent),
            flow.call(first, on_failure=lambda failure, seconds: told.append(failure)),
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        await slow
        assert [f.billed for f in told] == [True]
        return results

    refused, ended = run(main())
    assert refused.kind == "rate"
    assert (str(ended), ended.billed) == (
        "malformed: x (its next try had no turn before the deadline)",
        False,
    )


def test_a_cancelled_call_gives_its_slot_back_even_in_the_moment_it_gets_it():
    async def main():
        flow = FlowControl(concurrency=1)
        hangs = asyncio.create_task(flow.call(lambda: asyncio.sleep(1e9), on_failure=silent))
        waits = asyncio.create_task(flow.call(still_open, on_failure=silent))
        last = asyncio.create_task(flow.call(still_open, on_failure=silent))
        await asyncio.sleep(1)
        assert (flow.in_flight_count, flow.waiting_count) == (1, 2)
        hangs.cancel()
        await asyncio.sleep(0)  # `hangs` ends and its slot goes to `waits`, which has not run yet
        assert (flow.in_flight_count, flow.waiting_count) == (1, 2)
        waits.cancel()
        assert await last == "open"
        assert (
            (flow.in_flight_count, flow.waiting_count) == (0, 0)
            and waits.cancelled()
            and hangs.cancelled()
        )

    run(main())


def test_what_is_not_a_failure_goes_through():
    async def main():
        flow = FlowControl(concurrency=1)

        async def broken():
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await flow.call(broken, on_failure=silent)
        assert flow.in_flight_count == 0

    run(main())


def steps_of(count):
    async def main():
        await drive(FlowControl(concurrency=8, rpm=10**6), Server(), count)
        return asyncio.get_running_loop().steps

    return run(main()) / count


@pytest.mark.slow
def test_a_slot_wakes_one_call_however_many_wait():
    assert steps_of(4000) < 1.1 * steps_of(200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("cap", "latency", "count"), [(64, 0.05, 1000), (256, 2.0, 2048), (8, 0.2, 400)]
)
def test_five_in_a_hundred_refused_at_random_cost_at_most_half_as_much_again(
    cap, latency, count, seed
):
    async def took(refuse):
        flow = FlowControl(concurrency=cap, random_number=random.Random(seed).random)
        server = Server(latency, refuse=refuse, seed=seed)
        seconds = await drive(flow, server, count)
        assert server.answered == count and bool(server.refused) == bool(refuse)
        return seconds

    assert run(took(0.05)) <= 1.5 * run(took(0.0))


@pytest.mark.slow
@pytest.mark.parametrize(("cap", "capacity"), [(64, 16), (256, 16), (16, 8), (64, 60)])
def test_concurrency_finds_what_the_server_bears(cap, capacity):
    async def main():
        flow, server = (
            FlowControl(concurrency=cap, random_number=random.Random(3).random),
            Server(capacity=capacity),
        )
        seconds = await drive(flow, server, 5000)
        return seconds / (5000 * server.latency / capacity), server.refused / 5000

    slower, refused = run(main())
    assert slower < 1.6
    assert refused < 0.25


@pytest.mark.slow
def test_it_backs_off_from_a_server_that_is_down_and_recovers():
    async def main():
        flow, server = (
            FlowControl(concurrency=64, random_number=random.Random(4).random),
            Server(down=(1.0, 21.0)),
        )
        levels = []

        async def watch():
            while True:
                levels.append((now(), flow.limit))
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        await drive(flow, server, 20_000)
        watching.cancel()
        return levels, server

    levels, server = run(main())
    lowest = min(limit for when, limit in levels if 1 < when < 21)
    again = [when for when, limit in levels if when > 21 and limit == 64]
    tried = sum(1 <= when < 21 for when in server.left)
    assert {limit for when, limit in levels if when < 1} == {64} and lowest == 1
    assert again and again[0] < 21 + 20
    assert tried < 400, "a server that is down is asked now and then, not hammered"


def test_one_decrease_a_congestion():
    concurrency = ConcurrencyLimit(64)
    before = [concurrency.record_refusal(0) for _ in range(64)]
    assert before.count(True) == 1 and concurrency.limit == pytest.approx(44.8)
    assert sum(concurrency.record_refusal(1) for _ in range(40)) == 1
    for _ in range(10_000):
        concurrency.record_answer(2)
    assert concurrency.limit == 64


@pytest.mark.parametrize("cap", [8, 64, 256, 1024])
def test_from_the_bottom_to_the_cap_in_some_twenty_round_trips(cap):
    concurrency = ConcurrencyLimit(cap)
    while concurrency.limit > 1:
        concurrency.record_refusal(concurrency.epoch)
    trips = 0
    while concurrency.limit < cap:
        trips += 1
        for _ in range(int(concurrency.limit)):
            concurrency.record_answer(concurrency.epoch)
    assert 8 < trips < 25


def test_the_next_goes_as_soon_as_it_may_when_the_one_before_gives_up():
    async def main():
        flow, server = FlowControl(tpm=100), Server()
        await flow.call(server, weight=90, on_failure=silent)
        await asyncio.sleep(30)
        await flow.call(server, weight=5, on_failure=silent)
        heavy = asyncio.create_task(flow.call(server, weight=100, on_failure=silent))
        light = asyncio.create_task(flow.call(server, weight=20, on_failure=silent))
        await asyncio.sleep(1)
        heavy.cancel()
        await light
        return server.left

    assert run(main())[2] == pytest.approx(60.5)


def test_a_few_refusals_among_many_answers_are_no_congestion():
    concurrency = ConcurrencyLimit(64)
    for i in range(6400):
        assert not (concurrency.record_refusal(0) if i % 10 == 0 else concurrency.record_answer(0))
    assert concurrency.limit == 64


def test_settings_that_make_no_sense_are_refused():
    for wrong in (
        {"concurrency": 0},
        {"rpm": -1},
        {"timeout": 0},
        {"deadline": -1},
        {"max_paid_tries": -1},
    ):
        with pytest.raises(ValueError, match="above 0"):
            FlowControl(**wrong)


def test_tries_retries_and_refusals_are_counted():
    async def work():
        flow = FlowControl(concurrency=8)
        server = Server(refuse=0.3, seed=4)
        await drive(flow, server, 40)
        assert server.refused > 0
        assert flow.traffic == (40 + server.refused, server.refused, server.refused)

    run(work())

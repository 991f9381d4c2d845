"""Costs by role and arm: exact, and equal on a run that paid and on one that was fast-forwarded."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_fakes import Plain, ask

from potstill.models.model import Completion
from potstill.records import Tokens
from potstill.store import Store, with_cache


class Priced(Plain):
    """Each prompt is a number: that many prompt tokens, twice as many written, half as many seconds; 13 fails."""

    def write(self, requests):
        super().write(requests)
        return [
            Completion("", "", Tokens(13), "no", 6.5)
            if r.prompt == "13"
            else Completion(
                "t", "stop", Tokens(int(r.prompt), 2 * int(r.prompt)), "", int(r.prompt) / 2
            )
            for r in requests
        ]


def program(store: Store, model: Priced) -> dict[str, dict[str, dict[str, float]]]:
    for arm, teacher in (("sft", ["1", "2", "13"]), ("orion", ["2", "3"])):
        ledger = store.ledger(arm)
        with_cache(model, store, role="teacher", arm=arm, seed=0).write(ask(*teacher, teacher[0]))
        with_cache(model, store, role="judge", arm=arm, seed=0).write(ask("1"))
        ledger.finish()
    return {arm: store.usage(arm) for arm in ("sft", "orion")}


def usage(calls, reused, prompt, completion, seconds, errors):
    names = ("calls", "reused", "prompt_tokens", "completion_tokens", "seconds", "errors", "cost")
    return dict(zip(names, (calls, reused, prompt, completion, seconds, errors, 0.0), strict=True))


EXPECTED = {
    "sft": {"judge": usage(1, 1, 1, 2, 0.5, 0), "teacher": usage(3, 0, 16, 6, 8.0, 1)},
    "orion": {"judge": usage(1, 1, 1, 2, 0.5, 0), "teacher": usage(2, 1, 5, 10, 2.5, 0)},
}


def test_usage_is_exact_and_the_same_when_fast_forwarded(tmp_path: Path):
    with Store.open(tmp_path) as store:
        model = Priced()
        assert program(store, model) == EXPECTED
        assert len(model.asked) == 4
    with Store.open(tmp_path) as store:
        model = Priced()
        assert program(store, model) == EXPECTED
        assert model.asked == []


def test_an_arm_run_anew_counts_only_what_it_needs_now(tmp_path: Path):
    with Store.open(tmp_path) as store:
        program(store, Priced())
        store.ledger("sft")
        assert store.usage("sft") == {}
        with_cache(Priced(), store, role="teacher", arm="sft", seed=0).write(ask("1"))
        assert store.usage("sft") == {"teacher": usage(1, 0, 1, 2, 0.5, 0)}
        assert store.usage("orion") == EXPECTED["orion"]


def test_usage_of_an_arm_without_a_ledger(tmp_path: Path):
    with Store.open(tmp_path) as store:
        with_cache(Priced(), store, role="student", arm="evaluate", seed=0).write(ask("4", "6"))
        assert store.usage("evaluate") == {"student": usage(2, 0, 10, 20, 5.0, 0)}
        assert store.usage("nobody") == {}


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1203])
def test_more_keys_than_one_select_takes(tmp_path: Path, count: int):
    with Store.open(tmp_path) as store:
        wrapped = with_cache(Priced(), store, role="teacher", arm="sft", seed=0)
        requests = ask(*(str(20 + i) for i in range(count)))
        assert wrapped.write(requests) == wrapped.write(requests)
        assert store.usage("sft")["teacher"]["calls"] == count

"""Passages as requests: what a passage's key is, and that nothing of it is lost."""

from __future__ import annotations

import pytest

from potstill.models.scoring import Passage, is_scoring, scored_passage, scoring_request

PASSAGES = [Passage("p", "t"), Passage("p", "t", prefix="so "), Passage("p", "", prefix="so t")]


@pytest.mark.parametrize("passage", PASSAGES)
def test_a_request_gives_its_passage_back(passage):
    request = scoring_request(passage)
    assert is_scoring(request) and scored_passage(request) == passage


def test_keys_are_those_of_the_stores_of_today_and_tell_passages_apart():
    keys = [scoring_request(passage).key("m") for passage in PASSAGES]
    assert keys[0] == "completion-6f4a968a6d0e6df38306", "a stored score is found again"
    assert len(set(keys)) == 3
    assert scoring_request(Passage("p", "so t")).key("m") not in keys

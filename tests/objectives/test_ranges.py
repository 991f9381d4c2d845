"""Constants outside their ranges are refused in words, by the objective itself and before it computes anything."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill import objectives
from potstill.errors import ConfigError

TABLE = {
    "dpo": {"beta": -1, "sft": -0.1, "length_share": 1.5, "smoothing": 0.5, "label_smoothing": 0.5},
    "step_dpo": {"beta": 0},
    "ipo": {"tau": 0},
    "exo": {"beta": -1},
    "discopop": {"beta": -1},
    "simpo": {"beta": float("nan")},
    "cpo": {"alpha": -1},
    "orpo": {"lam": -1},
    "redi": {"alpha": -1},
    "kto": {"beta": -1, "desirable": -1},
    "length_balanced": {"power": -1},
    "grpo": {"beta": -1, "clip": -0.2, "clip_high": -0.2},
    "sapo": {"positive": 0},
    "vespo": {"decay": -1},
    "opd": {"coefficient": -1, "discount": 2},
    "trust_region": {"drift": -1},
    "iw_opd": {"gamma": -1},
    "minillm": {"gamma": 1.5, "mixed": -0.1},
    "kdrl": {"beta": -1},
    "uld": {"weight": -1, "temperature": 0},
    "multilevel_ot": {"top": 0},
    "gold": {"beta": 2, "temperature": 0},
    "dskd": {"kd": 2, "temperature": 0},
    "cot2align": {"align": -1},
    "ted": {"mse": -1},
    "rkd": {"angle": -1},
    "qcrd": {"beta": -1},
    "contrastive": {"temperature": 0},
}


@pytest.mark.parametrize(
    ("name", "constant", "value"),
    [(n, c, v) for n, wrong in TABLE.items() for c, v in wrong.items()],
)
def test_what_would_train_the_wrong_way_round_is_refused(name, constant, value):
    assert constant in objectives.constants(name)
    with pytest.raises(ConfigError) as error:
        objectives.find(name)(None, **{constant: value})  # no inputs: it computes nothing before
    assert (
        error.value.found.startswith(f"{constant}={value}")
        and error.value.expected
        and error.value.fix
    )


def test_the_defaults_are_within():
    """Whatever a default is, its objective goes on to look at its inputs."""
    for name in TABLE:
        with pytest.raises(AttributeError, match="'NoneType' object"):
            objectives.find(name)(None)

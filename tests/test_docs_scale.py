"""docs/scale.md: every potstill command of its examples has flags that there are, and its recipe is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from potstill.cli import module_of
from potstill.cli.options import Parser
from potstill.runs import recipe

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "scale.md").read_text("utf-8")
BLOCKS = re.findall(r"```(?:sh|yaml)\n(.*?)```", PAGE, re.DOTALL)
# A command stands on its line, or in a folded text of YAML up to an empty line or the next key.
COMMAND = re.compile(r"(?:^|-m |entrypoint: )potstill ([a-z]\w*\b[^\n]*(?:\n +--[^\n]*)*)", re.M)


def test_its_commands_are_read_by_the_command_line():
    commands = COMMAND.findall("\n".join(BLOCKS))
    assert len(commands) >= 12
    for command in commands:
        verb, *words = shlex.split(
            command.strip().removesuffix("'") if command.count("'") % 2 else command
        )
        parser = Parser(prog=f"potstill {verb}")
        module_of(verb).add_arguments(parser)
        parser.parse_args(words)


def test_its_recipe_and_manifests_are_read(tmp_path):
    recipes = [block for block in BLOCKS if block.startswith("method:")]
    (tmp_path / "big.yaml").write_text(recipes[0])
    assert recipe.from_file(tmp_path / "big.yaml").arms["rft"].values["n"] == 8
    assert all(yaml.safe_load(block) for block in BLOCKS if re.match(r"\w+: ", block))

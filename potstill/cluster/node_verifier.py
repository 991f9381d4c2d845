"""What runs on a node of the cluster: the verifiers with the worker processes of that machine.

It is made by name from the installed package, so a node needs Potstill, and nothing of the driver's folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeAlias

from potstill import __version__, verifiers
from potstill.errors import ConfigError
from potstill.verifiers.workers import pool

Work: TypeAlias = Literal["judge", "equal", "programs"]
PROGRAMS_KIND = "code"  # programs that compute an answer run in the sandbox of this kind


class Proof(NamedTuple):
    """What a node says of itself before it gets work of a kind.

    Args:
        version: of Potstill and of the verifier; verdicts are stored under the driver's.
        sandbox: in which programs run there; "" where the kind has none.
        obstacle: why it can't do the work; "" where it can.
    """

    version: str
    sandbox: str = ""
    obstacle: str = ""


class Reply(NamedTuple):
    """The results of a portion in its order, or why the node could not make them."""

    results: Sequence[Any] = ()
    obstacle: str = ""


def verifier_version(kind: str) -> str:
    """Potstill's version and the verifier's: equal ones judge alike."""
    return f"potstill {__version__}, {verifiers.version(kind)}"


class NodeVerifier:
    """Judges portions, one after another, each on all cores that Ray counts for the node.

    Args:
        cores: how many these are.
    """

    def __init__(self, cores: int) -> None:
        pool.use_cores(cores)

    def process_id(self) -> int:
        """The process that this is in."""
        return os.getpid()

    def prove(self, kind: str) -> Proof:
        """Say whether this node can do work of a kind; a sandbox is tried out."""
        sandbox_kind = ""
        version = f"potstill {__version__}"
        try:
            version = verifier_version(kind)
            if kind == PROGRAMS_KIND:
                from potstill.verifiers.code import sandbox  # here, because most nodes get none

                sandbox_kind = sandbox.choose_sandbox()
        except ConfigError as error:
            return Proof(version, obstacle=error.render())
        return Proof(version, sandbox_kind)

    def work(
        self, work: Work, kind: str, items: Sequence[Any], options: Mapping[str, Any]
    ) -> Reply:
        """Do a portion of the work.

        Args:
            work: what is done with each item: a verdict, a comparison, or what a program comes to.
            kind: of the verifier.
            items: as the verifier takes them.
            options: whether answers in thoughts count, and the limits of a program.
        """
        try:
            if work == "programs":
                from potstill.verifiers.code import output

                return Reply(output.run_all(items, limits=options["limits"]))
            module: Any = import_module(verifiers.MODULES[kind])
            with verifiers.reading_thoughts(options["reads_thoughts"]):
                compute = module.judge_all if work == "judge" else module.equal_all
                return Reply(compute(items))
        except ConfigError as error:  # what it needs is not installed here, or can't start
            return Reply(obstacle=error.render())

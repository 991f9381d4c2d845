"""Look into a finished run: its table, the rows that it trained on, and where one of them came from.

python examples/look_at_a_run.py runs/quickstart orion
"""

import sys

import potstill as ps


def main(folder: str, arm: str) -> None:
    run = ps.open_run(folder)
    print(run.table())

    rows = run.rows(arm)
    print(rows)
    row = run.trace(rows[0].id)
    print(f"{row.trace.id}, made by {row.trace.operator} from:")
    for parent in row.parents:
        print(f"  {parent.id} by {parent.operator}, {parent.verdict.status}: {parent.text[:60]!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The schema of a problem's tables as text: what a query can't be written without."""

from __future__ import annotations

import csv

from potstill.verifiers.sql import execute, statements


def schema_text(table: str) -> str:
    """Return the CREATE statements of the tables, without their rows; data that can't be read is returned as it is.

    Args:
        table: SQL, JSON or CSV, as `problem.table` holds it.
    """
    created: list[str] = []
    for statement in statements.split_statements(table, max_characters=None):
        if statement.split(None, 1)[0].upper() == "CREATE":
            created.append(f"{statement};")
    if created:
        return "\n".join(created)
    try:
        definitions = [execute.table_definition(*parts) for parts in execute.tables_of_data(table)]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, csv.Error):
        return table
    return "\n".join(f"{definition};" for definition in definitions)

"""The first phase of the index: what the ledgers hold, as columns, in portions that are committed one by one.

Everything happens in SQL, so that 100,000 traces take seconds and other threads go on meanwhile. An arm that has come
to its end is read once. One that has not may still get rows, and its notes (verdicts, scores) change in place: they are
compared by checksum. An arm that was begun anew has another generation: its entries are deleted before anything else.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from potstill.store.database import Database, from_column
from potstill.store.history import generalise_reason
from potstill.viewer.index.index_file import GROUP_COLUMNS
from potstill.viewer.query import replace_unusable

PORTION = 4000  # entries in one transaction: some tens of milliseconds

# What is taken from the JSON of a trace and of an arm's notes. Older schemes have other names for two fields.
_STAGED = """
    SELECT m.seq AS seq, m.arm AS arm, m.id AS id, t.operator AS operator, t.parents AS parents,
        json_extract(t.record, '$.error') AS error,
        coalesce(json_extract(t.record, '$.finish_reason'), json_extract(t.record, '$.finish'), '') AS finish,
        coalesce(json_extract(t.record, '$.prefix_length'), json_extract(t.record, '$.given'), 0) AS prefix_length,
        json_extract(t.record, '$.author[0]') AS model,
        substr(json_extract(t.record, '$.author[1]'), 8) AS prompt,
        json_extract(t.record, '$.author[3]') AS draw,
        length(json_extract(replace(t.record, '\\u0000', ' '), '$.text')) AS length,
        json_extract(t.record, '$.root') AS root,
        json_extract(t.record, '$.saw_gold') AS saw_gold,
        json_extract(t.record, '$.problem.id') AS problem_id,
        json_extract(t.record, '$.problem') AS problem,
        json_extract(m.notes, '$.verdict[0]') AS verdict,
        json_extract(m.notes, '$.verdict[1]') AS answer,
        json_extract(m.notes, '$.verdict[2]') AS reason,
        json_extract(m.notes, '$.tokens[0]') AS prompt_tokens,
        json_extract(m.notes, '$.tokens[1]') AS tokens,
        json_extract(m.notes, '$.tokens[3]') AS reasoning_tokens,
        coalesce(json_extract(m.notes, '$.weight'), 1.0) AS weight,
        json_extract(m.notes, '$.spans') AS spans,
        json_extract(m.notes, '$.scores') AS scores,
        checksum(m.notes) AS checksum
    FROM made m JOIN traces t ON t.id = m.id"""

_STATUS = """CASE WHEN error != '' THEN 'error' WHEN model IS NULL AND length = 0 THEN 'blank'
    ELSE coalesce(verdict, 'unjudged') END"""

# The steps of a trace: how many, how many are wrong, and which is the first wrong one, counted from 1.
_STEPS = """
    SELECT seq, count(*) AS steps, sum(score = 0) AS wrong, min(CASE WHEN score = 0 THEN number END) AS first_wrong
    FROM (
        SELECT p.seq AS seq, json_extract(s.value, '$[4]') AS score,
            row_number() OVER (PARTITION BY p.seq ORDER BY s.key) AS number
        FROM temp.portion p, json_each(p.spans) s
        WHERE p.spans IS NOT NULL AND json_extract(s.value, '$[2]') = 'step')
    GROUP BY seq"""

_FILL = (
    "INSERT OR IGNORE INTO view.ids (id) SELECT id FROM temp.portion ORDER BY seq",
    "INSERT OR IGNORE INTO view.ids (id) SELECT p.value FROM temp.portion, json_each(parents) p",
    # A problem that stands in one run with two texts (an edited file, a hash of another scheme) is two.
    """INSERT OR IGNORE INTO view.problems (id, version, question, answer, kind, source, metadata, length)
        SELECT problem_id, checksum(problem), json_extract(problem, '$.question'), json_extract(problem, '$.answer'),
            json_extract(problem, '$.kind'), coalesce(json_extract(problem, '$.source'), ''),
            coalesce(json_extract(problem, '$.metadata'), '{}'), length(json_extract(problem, '$.question'))
        FROM (SELECT DISTINCT problem_id, problem FROM temp.portion)""",
    f"""INSERT OR IGNORE INTO view.groups ({", ".join(GROUP_COLUMNS)})
        SELECT DISTINCT {", ".join(GROUP_COLUMNS)} FROM temp.grouped""",
    f"""INSERT OR REPLACE INTO view.entries
        SELECT p.seq, i.number, g.number, q.number, p.tokens, p.prompt_tokens, p.reasoning_tokens, p.length, p.draw,
            p.weight, s.steps, s.wrong, s.first_wrong, p.prompt, p.answer, nullif(p.reason, ''), p.root, p.checksum,
            NULL, NULL, NULL, NULL
        FROM temp.portion p
        JOIN temp.grouped d ON d.seq = p.seq
        JOIN view.ids i ON i.id = p.id
        JOIN view.problems q ON q.id = p.problem_id AND q.version = checksum(p.problem)
        JOIN view.groups g ON {" AND ".join(f"g.{name} = d.{name}" for name in GROUP_COLUMNS)}
        LEFT JOIN temp.steps_of_portion s ON s.seq = p.seq""",
    """INSERT OR IGNORE INTO view.descents
        SELECT a.number, c.number FROM temp.portion p, json_each(p.parents) o
        JOIN view.ids a ON a.id = o.value JOIN view.ids c ON c.id = p.id""",
    "DELETE FROM view.scores WHERE seq IN (SELECT seq FROM temp.portion)",
    # Infinity and NaN are objects with a tag there; NaN has no place in an order.
    """INSERT OR REPLACE INTO view.scores
        SELECT s.key, p.seq,
            CASE s.type WHEN 'integer' THEN s.value WHEN 'real' THEN s.value
                WHEN 'object' THEN CASE json_extract(s.value, '$."$float"')
                    WHEN 'inf' THEN 9e999 WHEN '-inf' THEN -9e999 END END,
            CASE s.type WHEN 'text' THEN s.value END
        FROM temp.portion p, json_each(p.scores) s WHERE p.scores IS NOT NULL AND s.type != 'null'""",
)

_GROUPED = f"""
    SELECT p.seq AS seq, p.arm AS arm, p.operator AS operator, {_STATUS} AS status, p.finish AS finish,
        coalesce(p.model, '') AS model, coalesce(p.saw_gold, 0) AS saw_gold, p.prefix_length > 0 AS is_prefixed,
        CASE WHEN p.error = '' THEN '' ELSE substr(p.error, 1, instr(p.error || ':', ':') - 1) END AS failure,
        coalesce(json_extract(p.problem, '$.kind'), '') AS kind,
        coalesce(json_extract(p.problem, '$.source'), '') AS source
    FROM temp.portion p"""


class ArmMark(NamedTuple):
    """How far an arm's ledger has been read, or how far it is."""

    arm: str
    generation: int
    is_finished: bool


def add_functions(database: Database) -> None:
    """What the statements below need beside SQLite's own functions."""
    database.read("PRAGMA temp_store = MEMORY")
    database.create_function("checksum", 1, _checksum)
    database.create_function("general_reason", 1, _general_reason)


def _checksum(text: str | bytes | None) -> int:
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text or b""
    return zlib.crc32(content)


def _general_reason(reason: str | bytes) -> str:
    return replace_unusable(generalise_reason(from_column(reason)))


def index_next_portion(database: Database) -> bool:
    """Read the next portion of the ledgers into the index; whether there was anything to read.

    Each call is one transaction on the index, and one view of the store: nothing is seen half.
    """
    with database.attached_transaction():
        has_changed = _forget_old_generations(database)
        for mark in _store_arms(database):
            read_so_far = database.read(
                "SELECT is_complete, last_seq FROM view.arms WHERE arm = ?", (mark.arm,)
            )
            if read_so_far and read_so_far[0][0]:
                continue
            last_seq = read_so_far[0][1] if read_so_far else -1
            if _read_new(database, mark, last_seq):
                return True
            # All rows are there; of an arm that is still being made, notes may have changed.
            has_changed |= _read_changed(database, mark)
            has_changed |= _read_drops(database, mark)
            has_changed |= _read_placed(database, mark)
            _note_arm(database, mark, is_complete=mark.is_finished)
        return has_changed


def _store_arms(database: Database) -> list[ArmMark]:
    rows = database.read("SELECT arm, generation, finished FROM arms ORDER BY rowid")
    return [ArmMark(arm, generation, bool(finished)) for arm, generation, finished in rows]


def _forget_old_generations(database: Database) -> bool:
    """Delete what the index has of arms that were begun anew or are gone; whether there were any."""
    sql = """SELECT k.arm FROM view.arms k LEFT JOIN main.arms a ON a.arm = k.arm
        WHERE a.arm IS NULL OR a.generation != k.generation"""
    stale = [arm for (arm,) in database.read(sql)]
    for arm in stale:
        of_arm = """SELECT e.seq FROM view.entries e JOIN view.groups g ON g.number = e."group" WHERE g.arm = ?"""
        database.read(f"DELETE FROM view.scores WHERE seq IN ({of_arm})", (arm,))
        database.read(f"DELETE FROM view.entries WHERE seq IN ({of_arm})", (arm,))
        for table in ("drops", "placed", "arms"):
            database.read(f"DELETE FROM view.{table} WHERE arm = ?", (arm,))
    return bool(stale)


def _read_new(database: Database, mark: ArmMark, last_seq: int) -> bool:
    """Read the arm's next rows; whether there were any."""
    # Seqs go up over all arms. NOT INDEXED: the index over arms would sort the whole arm for each portion.
    where = "FROM made m NOT INDEXED JOIN traces t ON t.id = m.id WHERE m.arm = ? AND m.seq > ? ORDER BY m.seq LIMIT ?"
    sql = _STAGED.replace("FROM made m JOIN traces t ON t.id = m.id", where)
    if not _fill_portion(database, sql, (mark.arm, last_seq, PORTION)):
        return False
    [(last_seq,)] = database.read("SELECT max(seq) FROM temp.portion")
    _note_arm(database, mark, is_complete=False)
    database.read("UPDATE view.arms SET last_seq = ? WHERE arm = ?", (last_seq, mark.arm))
    return True


def _read_changed(database: Database, mark: ArmMark) -> bool:
    """Read again what has other notes than when it was read."""
    where = """WHERE m.arm = ? AND EXISTS (
        SELECT 1 FROM view.entries e WHERE e.seq = m.seq AND e.checksum != checksum(m.notes))"""
    return _fill_portion(database, f"{_STAGED} {where}", (mark.arm,))


def _fill_portion(database: Database, sql: str, args: tuple[object, ...]) -> bool:
    """Stage the rows of a SELECT and write them into the tables of the index; whether there were any."""
    for table in ("portion", "grouped", "steps_of_portion"):
        database.read(f"DROP TABLE IF EXISTS temp.{table}")
    database.read(f"CREATE TEMP TABLE portion AS {sql}", args)
    if not database.read("SELECT 1 FROM temp.portion LIMIT 1"):
        return False
    database.read(f"CREATE TEMP TABLE grouped AS {_GROUPED}")
    database.read(f"CREATE TEMP TABLE steps_of_portion AS {_STEPS}")
    for name in ("portion", "grouped", "steps_of_portion"):
        database.read(f"CREATE INDEX temp.{name}_by_seq ON {name} (seq)")
    for statement in _FILL:
        database.read(statement)
    return True


def _read_drops(database: Database, mark: ArmMark) -> bool:
    """Read the arm's new drops."""
    # Drops are only added, so those behind the last one are new.
    last_drop = database.read("SELECT last_drop FROM view.arms WHERE arm = ?", (mark.arm,))
    after = last_drop[0][0] if last_drop else -1
    count_sql = "SELECT count(*), max(seq) FROM main.drops WHERE arm = ? AND seq > ?"
    [(count, last)] = database.read(count_sql, (mark.arm, after))
    if not count:
        return False
    database.read(
        """INSERT OR REPLACE INTO view.drops
        SELECT d.seq, d.arm, m.seq, d.operator || ' ' || d.test, general_reason(d.reason)
        FROM main.drops d JOIN made m ON m.arm = d.arm AND m.id = d.id WHERE d.arm = ? AND d.seq > ?""",
        (mark.arm, after),
    )
    _note_arm(database, mark, is_complete=False)
    database.read("UPDATE view.arms SET last_drop = ? WHERE arm = ?", (last, mark.arm))
    return True


def _read_placed(database: Database, mark: ArmMark) -> bool:
    """Read where the arm's traces stand among the rows of its stages, where that has changed."""
    in_store = (
        "SELECT r.stage, r.label, r.position, r.id FROM rows r WHERE r.arm = ? ORDER BY 1, 2, 3"
    )
    in_index = """SELECT p.stage, p.label, p.position, i.id FROM view.placed p JOIN view.entries e ON e.seq = p.seq
        JOIN view.ids i ON i.number = e.trace WHERE p.arm = ? ORDER BY 1, 2, 3"""
    if database.read(in_store, (mark.arm,)) == database.read(in_index, (mark.arm,)):
        return False
    database.read("DELETE FROM view.placed WHERE arm = ?", (mark.arm,))
    database.read(
        """INSERT OR REPLACE INTO view.placed (arm, stage, position, label, seq)
        SELECT r.arm, r.stage, r.position, r.label, m.seq FROM rows r JOIN made m ON m.arm = r.arm AND m.id = r.id
        WHERE r.arm = ?""",
        (mark.arm,),
    )
    return True


def _note_arm(database: Database, mark: ArmMark, *, is_complete: bool) -> None:
    database.read(
        """INSERT INTO view.arms VALUES (?, ?, ?, ?, -1, -1)
        ON CONFLICT (arm) DO UPDATE SET is_finished = excluded.is_finished, is_complete = excluded.is_complete""",
        (mark.arm, mark.generation, mark.is_finished, is_complete),
    )

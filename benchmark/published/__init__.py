"""What the S3RNet and CSAKD papers print: tables, claims, and where their prints disagree. Data beside: ``published.json``.

    printed("csakd-table-1", "s3rnet-student", "psnr_db", msi_bands=4).value                                   # 35.544
    printed("csakd-table-2", "dual-unet", "sam_deg", noise_target="both", snr_db=25).text                      # "11.009"
    printed("csakd-table-3", "s3rnet-teacher", "rmse", coefficients={"lambda_2": 0.5}).defects[0].what
    figures("s3rnet-student")[4]["macs"]                                                     # of whichever table has it

Values are in the unit of their column; ``macs`` are multiply-adds and, as ``parameters``, plain counts. One run each, no
spread anywhere; RMSE is in native units of images that are not public, so that no measured one may be ranked with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

LONG, TABLE_1, TABLE_2, TABLE_3, TABLE_4 = "s3rnet-readme", *(f"csakd-table-{number}" for number in range(1, 5))
COSTS = ("parameters", "macs", "seconds", "memory_mb")


class PublishedError(LookupError):
    """A cell that is not printed, or not told from another: names it and the choices."""


@dataclass(frozen=True)
class Defect:
    """An inconsistency of the prints.

    Args:
        id: short name.
        kind: ``number``, ``unit``, ``label``, ``equation``, ``text``, or ``suspect``: no contradiction, but not believable.
        where: ``{"source": key of Published.sources, "place": words}`` each.
        what: in words.
        recomputed: from the cells or equations, by what it is.
        rows: the cells touched: ``table``, ``label``, ``columns``, and any key of its rows that narrows them.
    """

    id: str
    kind: str
    where: Sequence[Mapping[str, str]]
    what: str
    recomputed: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()

    def touches(self, table: str, row: Row, column: str) -> bool:
        """Whether a cell is one of those touched."""
        return any(each["table"] == table and each["label"] == row.label and column in each["columns"]
                   and all(row.place[key] == value for key, value in each.items() if key not in ("table", "label", "columns"))
                   for each in self.rows)


@dataclass(frozen=True)
class Claim:
    """A claim of the papers in our words.

    Args:
        id: short name.
        text: the claim.
        where: it is made, as :class:`Defect`.
        test: what would test it.
        needs: that test: any of ``counting``, ``timing``, ``training``, ``ablation``, ``noise runs``, ``figure``, ...
        tables_say: ``supports``, ``contradicts``, ``mixed`` or ``no-numbers``, by the printed tables alone.
        evidence: computed from these: ``what``, ``value``, ``unit``, ``from``.
        remark: on the evidence.
    """

    id: str
    text: str
    where: Sequence[Mapping[str, str]]
    test: str
    needs: Sequence[str]
    tables_say: str
    evidence: Sequence[Mapping[str, Any]]
    remark: str = ""


@dataclass(frozen=True)
class Row:
    """A printed row.

    Args:
        label: as printed.
        method: registry name.
        values: by column, None where a dash is printed.
        printed: the print of a cell wherever it is not its number itself.
        place: what else tells the row from others: ``msi_bands``, ``group``, ``variant``, ``scenario``,
            ``noise_target``, ``snr_db``, ``side``, ``coefficients``, ``depths``, ...
    """

    label: str
    method: str
    values: Mapping[str, float | None]
    printed: Mapping[str, str]
    place: Mapping[str, Any]


@dataclass(frozen=True)
class PrintedTable:
    """A printed table.

    Args:
        caption: in our words.
        columns: by key: ``label``, ``unit``, ``better``.
        notes: what must be known to read it.
        rows: in printed order.
        cost_msi_bands: by method, where costs carry no MSI band count: the one that the suite's own counts fit, if not 4.
    """

    caption: str
    columns: Mapping[str, Mapping[str, str]]
    notes: Sequence[str]
    rows: Sequence[Row]
    cost_msi_bands: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Printed:
    """A printed value.

    Args:
        value: in the unit of its column; NaN for a printed dash.
        text: as printed.
        defects: that touch it.
    """

    value: float
    text: str = ""
    defects: tuple[Defect, ...] = ()


@dataclass(frozen=True)
class Published:
    """All of ``published.json``; ``beyond`` are claims that no print makes in these words but equations, code or split do."""

    sources: Mapping[str, Mapping[str, str]]
    tables: Mapping[str, PrintedTable]
    claims: tuple[Claim, ...]
    defects: tuple[Defect, ...]
    beyond: tuple[Claim, ...]


@cache
def published() -> Published:
    """The data, read once."""
    held = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    tables = {}
    for name, table in held["tables"].items():
        own = {each.name for each in fields(Row)}
        rows = tuple(Row(**{key: row[key] for key in own - {"place"}},
                         place={key: value for key, value in row.items() if key not in own}) for row in table["rows"])
        tables[name] = PrintedTable(table["caption"], table["columns"], table["notes"], rows, table.get("cost_msi_bands", {}))
    return Published(held["sources"], tables, tuple(Claim(**claim) for claim in held["claims"]),
                     tuple(Defect(**defect) for defect in held["defects"]),
                     tuple(Claim(**claim) for claim in held["beyond"]["claims"]))


def printed(table: str, method: str, column: str, **place: Any) -> Printed:
    """The one value of a column that is printed for a method at a place.

    Args:
        table: a key of :attr:`Published.tables`.
        method: registry name.
        column: of the table.
        **place: keys of :attr:`Row.place` with their values: ``msi_bands=4, noise_target="both", snr_db=25``,
            ``depths=(1, 3, 3, 3)``; of ``coefficients`` those given. Without ``variant`` the plain row.

    Raises:
        PublishedError: no such table, or no row or several at this place.
    """
    tables = published().tables
    if table not in tables:
        raise PublishedError(f"no published table '{table}'; choices: {', '.join(tables)}")
    place = {"variant": ""} | place
    rows = [row for row in tables[table].rows if row.method == method and column in row.values
            and all(_fits(row.place.get(key, "" if key == "variant" else None), value) for key, value in place.items())]
    if len(rows) != 1:
        there = [f"{row.label} {dict(row.place)}" for row in tables[table].rows if row.method == method]
        raise PublishedError(f"{len(rows)} rows of {table} have '{column}' of '{method}' at {place}; its rows: "
                             + ("; ".join(there) or "none"))
    return _cell(table, rows[0], column)


def figures(method: str) -> dict[int, dict[str, Printed]]:
    """MSI band count -> column -> what is printed of a method without noise: in the release's long table, else in Table I."""
    found: dict[int, dict[str, Printed]] = {}
    for name in (LONG, TABLE_1):
        table = published().tables[name]
        rows = [row for row in table.rows if row.method == method and not row.place["variant"]]
        for row in rows:
            stated = row.place["msi_bands"]
            msi_bands = table.cost_msi_bands.get(method, 4) if stated == "unstated" else stated
            found.setdefault(msi_bands, {}).update({column: _cell(name, row, column) for column, value in row.values.items()
                                                    if value is not None})
        if rows:
            break
    return found


def _fits(own: Any, asked: Any) -> bool:
    if isinstance(asked, Mapping):
        return isinstance(own, Mapping) and all(own.get(key) == value for key, value in asked.items())
    if isinstance(asked, float) and math.isinf(asked):
        return own == "inf"
    return own == (list(asked) if isinstance(asked, tuple) else asked)


def _cell(table: str, row: Row, column: str) -> Printed:
    value = row.values[column]
    return Printed(math.nan if value is None else float(value), row.printed.get(column, f"{value}"),
                   tuple(defect for defect in published().defects if defect.touches(table, row, column)))

"""The published data: complete, consistent with itself, and found cell by cell."""

import json
import math
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest

from benchmark import published as module
from benchmark.published import COSTS, LONG, TABLE_1, TABLE_2, TABLE_3, TABLE_4, PublishedError, figures, printed, published
from methods import available, card

RAW = json.loads(Path(module.__file__).with_name("published.json").read_text(encoding="utf-8"))


def test_all_of_it_is_there():
    held = published()
    assert sum(len(row.values) for table in held.tables.values() for row in table.rows) == 426
    assert [len(table.rows) for table in held.tables.values()] == [51, 39, 35, 12, 4]
    assert (len(held.claims), len(held.defects)) == (58, 54)
    ids = [each.id for each in (*held.claims, *held.beyond)]
    assert len(set(ids)) == len(ids) and len({defect.id for defect in held.defects}) == 54
    verdicts = [claim.tables_say for claim in held.claims]
    assert [verdicts.count(word) for word in ("supports", "mixed", "contradicts", "no-numbers")] == [26, 11, 3, 18]


def test_every_name_is_known():
    held = published()
    for name, table in held.tables.items():
        assert name in held.sources
        for row in table.rows:
            assert row.method in available(), row
            assert set(row.values) <= set(table.columns) and set(row.printed) <= set(row.values)
            assert all(value is None or math.isfinite(value) for value in row.values.values())
    for each in (*held.claims, *held.beyond, *held.defects):
        assert each.where and all(place["source"] in held.sources for place in each.where), each.id
    for claim in held.claims:
        assert all(source in held.sources for fact in claim.evidence for source in fact["from"]), claim.id


def test_every_defect_touches_cells_that_exist():
    """Each of its rows at least one row of the table, and each of its columns; "label" is the head of a row."""
    for defect in published().defects:
        for each in defect.rows:
            table = published().tables[each["table"]]
            narrow = {key: value for key, value in each.items() if key not in ("table", "label", "columns")}
            rows = [row for row in table.rows if row.label == each["label"]
                    and all(row.place[key] == value for key, value in narrow.items())]
            assert rows, (defect.id, each)
            for column in set(each["columns"]) - {"label"}:
                assert any(column in row.values and defect.touches(each["table"], row, column) for row in rows), defect.id


def test_prints_are_their_numbers():
    """26.81M is 26810000: the print, read by its suffix, is the value."""
    factors = {"M": 1e6, "G": 1e9, "s": 1.0, "": 1.0, "MB": 1.0}
    count = 0
    for table in published().tables.values():
        for row in table.rows:
            for column, text in row.printed.items():
                value = row.values[column]
                if value is None:
                    assert text == "-"
                    continue
                suffix = text.lstrip("0123456789.")
                factor = 1.0 if column == "memory_mb" else factors[suffix]
                assert float(text.removesuffix(suffix)) * factor == pytest.approx(value, rel=1e-12), (row.label, column)
                count += 1
    assert count > 100


def test_values_are_found_by_their_place():
    assert printed(TABLE_1, "s3rnet-student", "psnr_db", msi_bands=4).value == 35.544
    assert printed(TABLE_1, "s3rnet-student", "macs").text == "144.77G"
    assert printed(TABLE_1, "s3rnet-student-large", "psnr_db", msi_bands=4, variant="extended training").value == 35.954
    assert printed(TABLE_2, "dual-unet", "psnr_db", noise_target="both", snr_db=25).value == 19.944
    assert printed(TABLE_2, "dual-unet", "psnr_db", snr_db=math.inf).value == 35.423
    assert printed(TABLE_3, "s3rnet-teacher", "psnr_db", coefficients={"lambda_1": 0.5}).value == 35.794
    assert printed(TABLE_3, "s3rnet-student", "psnr_db", side="student", coefficients={"lambda_2": 0.5}).value == 34.906
    assert printed(TABLE_4, "s3rnet-student", "parameters", depths=(1, 3, 3, 3)).value == 8717000
    dash = printed(LONG, "cucanet", "memory_mb")
    assert math.isnan(dash.value) and dash.text == "-"


def test_a_place_that_is_none_or_several_is_refused():
    with pytest.raises(PublishedError, match=r"2 rows of csakd-table-1 have 'psnr_db' of 's3rnet-student'.*msi_bands"):
        printed(TABLE_1, "s3rnet-student", "psnr_db")
    with pytest.raises(PublishedError, match=r"0 rows of csakd-table-2 have 'psnr_db' of 'gsa' .* its rows: none"):
        printed(TABLE_2, "gsa", "psnr_db", snr_db=25)
    with pytest.raises(PublishedError, match="no published table 'table-9'; choices: s3rnet-readme, csakd-table-1"):
        printed("table-9", "gsa", "psnr_db")


def test_defects_come_with_the_cells_they_touch_and_no_others():
    def ids(*where, **place):
        return {defect.id for defect in printed(*where, **place).defects}

    assert ids(LONG, "usdn", "sam_deg", msi_bands=4) == {"usdn-u2mdn-shifted"}
    assert ids(LONG, "usdn", "sam_deg", msi_bands=6) == ids(LONG, "usdn", "psnr_db", msi_bands=4) == set()
    assert ids(LONG, "s3rnet-student", "parameters") == {"student-parameters-truncated", "student-first-branch"}
    assert ids(TABLE_2, "mssjfl", "sam_deg", scenario="average") == {"table-2-averages"}
    assert ids(TABLE_2, "mssjfl", "sam_deg", snr_db=25) == set()
    assert ids(TABLE_2, "dhif-net", "sam_deg", snr_db=35) == {"table-2-uneven-sam"}
    assert ids(TABLE_3, "s3rnet-student", "psnr_db", coefficients={"lambda_2": 0.5}) == set()
    assert ids(TABLE_3, "s3rnet-teacher", "psnr_db", coefficients={"lambda_2": 0.5}) == {"teacher-varies"}


def test_the_shifted_rows_are_shifted():
    """The cells that the defect names are equal across the two tables a row apart; with 6 bands they are in place."""
    for column in ("sam_deg", "rmse"):
        assert printed(LONG, "usdn", column, msi_bands=4).value == printed(TABLE_1, "u2mdn", column, msi_bands=4).value
        assert printed(LONG, "usdn", column, msi_bands=6).value == printed(TABLE_1, "usdn", column, msi_bands=6).value


def test_evidence_follows_from_the_cells():
    """Some of it, again: the averages of Table II, and the reductions of the student."""
    for method in ("pzres-net", "mssjfl", "dual-unet", "dhif-net", "s3rnet-student"):
        for column in ("psnr_db", "sam_deg"):
            cells = [printed(TABLE_2, method, column, snr_db=level).value for level in (25, 30, 35, 40, 45, math.inf)]
            assert abs(printed(TABLE_2, method, column, scenario="average").value - fmean(cells)) < 1e-3
    claims = {claim.id: claim for claim in published().claims}
    for claim, column in (("parameters-reduced", "parameters"), ("macs-reduced", "macs")):
        for fact, table in zip(claims[claim].evidence, (LONG, TABLE_1)):
            share = printed(table, "s3rnet-student", column).value / printed(table, "s3rnet-teacher", column).value
            assert fact["value"] == pytest.approx(100 * (1 - share), abs=0.006)


def test_figures_of_a_method_are_of_one_table():
    held = figures("s3rnet-teacher")
    assert {bands: set(cells) for bands, cells in held.items()} == {
        4: {"psnr_db", "sam_deg", "rmse", *COSTS}, 6: {"psnr_db", "sam_deg", "rmse"}}
    assert held[4]["memory_mb"].value == 2298  # of the later table; the earlier one has 8733
    assert figures("s3rnet-teacher-large")[4]["psnr_db"].value == 36.098  # of Table I, and not after extended training
    assert "memory_mb" not in figures("cucanet")[4]  # a dash
    assert set(COSTS) <= set(figures("psdnet")[6]) and not set(COSTS) & set(figures("psdnet")[4])
    assert figures("gsa") == {}


def test_committed_fidelity_rows_hold_these_counts():
    rows = pd.read_csv(Path(__file__).parents[2] / "results/fidelity.csv").set_index("method")
    for name in rows.index:
        costs = [(bands, cells) for bands, cells in figures(name).items() if "parameters" in cells]
        bands, cells = costs[0] if costs else (4, {})
        assert rows.loc[name, "msi_bands"] == bands and len(costs) < 2
        for column in ("parameters", "macs"):
            own = rows.loc[name, f"{column}_published"]
            assert own == cells[column].value if cells else math.isnan(own), (name, column)


def test_cards_hold_no_published_figures():
    assert not [name for name in available() if hasattr(card(name), "published")]


def test_the_file_says_what_its_keys_are():
    assert set(RAW) == {"about", "sources", "tables", "claims", "defects", "beyond"}
    assert set(RAW["about"]) >= {"rows", "units", "claims", "defects", "beyond", "cost_msi_bands"}

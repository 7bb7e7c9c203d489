"""A tiny fixed row set through the tables: the numbers, what is never mixed, and the exact text of a small case."""

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import datasets
from benchmark.page import formats, papers, tables
from benchmark.page.cells import NO_ROW, NOT_RECORDED, Cell
from benchmark.page.section import NO_MEAN, Facts, Rows, Split, sections
from benchmark.page.tables import Column, Row, Table
from benchmark.protocol import CLEAN, noise
from benchmark.published import Defect, Printed
from datasets.scene import registered

INF = math.inf
METRICS = ("psnr_db", "sam_deg", "rmse", "rmse_unit", "ergas", "ssim")


def row(method, psnr, *, sam=2.0, image="a", split="test", msi_bands=4, seed=0, snr=INF, target="none", protocol="p1",
        status="ok", stale=""):
    values = (psnr, sam, 10.0, 0.01, 3.0, 0.9)
    if status == "failed":
        values = (math.nan,) * 6
    return {"method": method, "dataset": "made", "split": split, "image": image, "msi_bands": msi_bands, "ratio": 4,
            "scenario": "clean" if math.isinf(snr) else "noise", "noise_target": target, "snr_db": snr, "seed": seed,
            "protocol": protocol, **dict(zip(METRICS, values)), "seconds": 0.1, "device": "cpu", "job": "j",
            "status": status, "stale": stale}


def cost(method, msi_bands=4, device="cpu", hr_size=256, **values):
    return {"method": method, "msi_bands": msi_bands, "device": device, "dtype": "float32", "lr_size": hr_size // 4,
            "hr_size": hr_size, "parameters": 8748718, "parameters_used": 7449946, "macs": 1.5e11, "macs_conv": 1.4e11,
            "macs_attention": 1e10, "flops": 3e11, "uncounted_ops": "none", "seconds_median": 0.5, "seconds_spread": 0.1,
            "peak_memory_mb": 100.0, "job": "c", "status": "ok", "stale": ""} | values


def facts(rows=(), **words):
    """Facts that ask for just what the rows hold, and the words given."""
    seeds = {}
    for one in rows:
        seeds.setdefault(one["method"], {})[one["seed"]] = None
    images = {}
    for one in rows:
        images.setdefault((one["dataset"], one["split"]), {})[one["image"]] = None
    noisy = sorted({(one["noise_target"], one["snr_db"]) for one in rows if one["scenario"] == "noise"})
    held = {
        "study": "tiny", "title": "Tiny", "methods": tuple(dict.fromkeys(one["method"] for one in rows)),
        "msi_bands": tuple(sorted({one["msi_bands"] for one in rows})), "protocol": "paper", "digest": "p1",
        "scenarios": (CLEAN, *(noise(*each) for each in noisy)),
        "splits": tuple(Split(*where, tuple(own)) for where, own in images.items()),
        "seeds": {method: tuple(own) for method, own in seeds.items()},
    } | words
    return Facts(**held | {"kinds": words.get("kinds", dict.fromkeys(held["methods"], "blind"))})


def split_sections(rows, costs=(), **words):
    return sections(facts(rows, **words), Rows(pd.DataFrame(rows), pd.DataFrame(costs)))[1]


def section(rows, costs=(), **words):
    (only,) = split_sections(rows, costs, **words)
    return only


def cells(table, key):
    j = [column.key for column in table.columns].index(key)
    return {(row.msi_bands, row.method): row.cells[j] for row in table.rows}


def clean(rows, key="psnr_db", method="gsa"):
    return cells(tables.all_metrics(section(rows))[0], key)[4, method]


def test_mean_is_over_images_within_a_seed_and_then_over_seeds():
    # seed 0 has one image more: the plain mean of all rows would be 25
    rows = [row("gsa", 20.0), row("gsa", 30.0, image="b"), row("gsa", 20.0, image="c"),
            row("gsa", 30.0, seed=1)]
    rows[2] |= {"psnr_db": 10.0}
    cell = clean(rows)
    assert cell.value == pytest.approx((20.0 + 30.0) / 2)
    assert cell.std == pytest.approx(math.sqrt(50.0))
    assert math.isnan(clean(rows[:3]).std)  # a single seed has no deviation


def test_failed_rows_have_no_part_in_the_mean_are_told_and_not_ranked():
    rows = [row("gsa", 20.0), row("gsa", 99.0, image="b", status="failed"),
            row("bicubic", 10.0), row("bicubic", 12.0, image="b"), row("other", 5.0), row("other", 5.0, image="b")]
    table = tables.all_metrics(section(rows))[0]
    cell = cells(table, "psnr_db")[4, "gsa"]
    assert cell.value == 20.0
    assert cell.notes == ("over 1 of 2 images, 1 rows failed: not ranked",)
    assert "1 failed rows of this split left out" in table.conditions
    assert [table.rows[i].method for (i, j), rank in formats.ranks(table).items() if j == 0 and rank == 1] == ["bicubic"]


def test_a_mean_of_few_images_stands_beside_each_of_them():
    rows = [*(row("gsa", 20.0 + 2 * seed, seed=seed) for seed in (0, 1)),
            *(row("gsa", 40.0 + 2 * seed, image="b", seed=seed) for seed in (0, 1)),
            row("fails", 30.0), row("fails", 0.0, image="b", status="failed")]
    (table,) = tables.by_image(section(rows, seeds={"gsa": (0, 1)}))
    assert [column.label for column in table.columns] == ["mean PSNR", "a", "b"] and table.columns[1].unit == "dB"
    assert [cells(table, key)[4, "gsa"].value for key in ("psnr_db", "psnr_db_a", "psnr_db_b")] == [31.0, 21.0, 41.0]
    assert cells(table, "psnr_db_a")[4, "fails"].value == 30.0 and math.isnan(cells(table, "psnr_db_b")[4, "fails"].value)
    assert tables.by_image(section([row("gsa", 20.0)])) == []  # one image is its own mean
    many = [row("gsa", 20.0, image=f"i{i}") for i in range(tables.MOST_IMAGES + 1)]
    assert tables.by_image(section(many)) == [] and len(tables.by_image(section(many[1:]))[0].columns) == len(many)
    assert tables.by_image(section(rows, scenarios=(noise("both", 25),))) == []


def test_a_seed_that_failed_throughout_is_told():
    rows = [row("gsa", 20.0), row("gsa", 20.0, seed=1, status="failed")]
    assert "over 0 to 1 of 1 images a seed" in clean(rows).notes[0]


def test_a_line_lost_in_every_file_is_noticed():
    asked = (Split("made", "test", ("a", "b", "lost")),)
    rows = [row(method, 20.0, image=image) for method in ("gsa", "bicubic") for image in "ab"]
    table = tables.all_metrics(section(rows, splits=asked))[0]
    assert cells(table, "psnr_db")[4, "gsa"].notes == ("over 2 of 3 images: not ranked",)
    assert "n = 2 of 3 images" in table.conditions
    assert formats.ranks(table) == {} and "Bold" not in formats.full_caption(table)


def test_a_seed_without_a_row_is_noticed():
    cell = cells(tables.all_metrics(section([row("gsa", 20.0)], seeds={"gsa": (0, 1)}))[0], "psnr_db")[4, "gsa"]
    assert cell == Cell(20.0, cell.std, ("over 0 to 1 of 1 images a seed: not ranked",), ranked=False)
    assert math.isnan(cell.std)


def test_rows_older_than_a_metric_show_a_hole_that_says_so():
    old = [{key: value for key, value in row("gsa", 20.0, snr=snr, target=target).items() if key != "rmse"}
           for snr, target in ((INF, "none"), (30.0, "both"))]
    made = [*tables.all_metrics(section(old)), *papers.table_1(section(old)), *tables.scenarios(section(old))]
    found = [(column.key, cell) for table in made for line in table.rows for column, cell in zip(table.columns, line.cells)
             if NOT_RECORDED in cell.notes]
    assert len(found) == 1 + 1 + 3 and all(math.isnan(cell.value) for _, cell in found)
    # beside rows that have it: NaN with status ok is a hole as well, and a mean over some of the images is told
    mixed = [row("gsa", 20.0), row("gsa", 20.0, image="b") | {"rmse": math.nan}, row("bicubic", 1.0) | {"rmse": math.nan},
             row("bicubic", 1.0, image="b") | {"rmse": math.nan}]
    held = cells(tables.all_metrics(section(mixed))[0], "rmse")
    assert held[4, "gsa"] == Cell(10.0, pytest.approx(math.nan, nan_ok=True),
                                  ("over 1 of 2 images, 1 not recorded: not ranked",), ranked=False)
    assert held[4, "bicubic"].notes == (NOT_RECORDED,)


def test_stale_rows_are_marked_with_what_changed():
    note = "stale: changed since it was measured (protocol, scoring)"
    assert clean([row("gsa", 20.0, stale="protocol, scoring")]).notes == (note,)
    assert clean([row("gsa", 2.0, stale="protocol"), row("gsa", 2.0, image="b", stale="protocol, scoring")]).notes == (note,)
    table = tables.costs(section([row("gsa", 20.0)], [cost("gsa", stale="counting")]))[0]
    assert cells(table, "seconds_median")[4, "gsa"].notes == ("stale: changed since it was measured (counting)",)
    assert clean([row("gsa", 20.0)]).notes == ()


def test_bands_that_no_score_counts_are_told():
    told = {"bands": 16, "bands_left_out": 3}
    cell = clean([row("gsa", 20.0) | told, row("gsa", 20.0, image="b") | told | {"bands_left_out": 0}])
    assert cell.notes == ("3 of 16 bands are constant in the reference of a and left out",) and cell.ranked


def test_splits_are_never_mixed_and_foreign_rows_are_refused():
    rows = [row("gsa", 30.0), row("gsa", 20.0, split="test-other-flight")]
    found = {one.title: cells(tables.all_metrics(one)[0], "psnr_db")[4, "gsa"].value for one in split_sections(rows)}
    assert found == {"made / test": 30.0, "made / test-other-flight": 20.0}
    with pytest.raises(ValueError, match="do not belong"):
        split_sections([*rows, row("gsa", 10.0, protocol="p2")])
    slugs = [one.slug for one in split_sections([row("gsa", 1.0, split="A b"), row("gsa", 1.0, split="a-b")])]
    assert slugs == ["made-a-b", "made-a-b-2"]


def test_kinds_are_ranked_apart_and_oracles_not_at_all():
    psnr = {"net": 40.0, "net2": 39.0, "told": 35.0, "told2": 34.0, "gsa": 30.0, "bicubic": 20.0, "sees": 99.0, "sees2": 98.0}
    rows = [row(name, value) for name, value in psnr.items()]
    kinds = {"net": "trained", "net2": "trained", "told": "known", "told2": "known", "gsa": "blind", "bicubic": "blind"}
    table = tables.all_metrics(section(rows, kinds=kinds, unranked=("Not ranked: sees, since told the reference.",)))[0]
    place = {(table.rows[i].method, rank) for (i, j), rank in formats.ranks(table).items() if j == 0}
    assert place == {("net", 1), ("net2", 2), ("told", 1), ("told2", 2), ("gsa", 1), ("bicubic", 2)}
    words = formats.full_caption(table)
    assert "each kind apart: known (told" in words and "trained on other scenes" in words
    assert words.endswith("Not ranked: sees, since told the reference.")


def test_a_row_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match=r"two score rows for .*'method': 'gsa'"):
        split_sections([row("gsa", 1.0), row("gsa", 2.0)])


def test_expected_grid_shows_holes_in_the_order_of_the_study():
    words = {"methods": ("zeta", "gsa"), "msi_bands": (4, 6), "scenarios": (CLEAN, noise("both", 30.0)),
             "splits": (Split("made", "none-yet", ("a",)), Split("made", "test", ("a",)))}
    empty, full = split_sections([row("gsa", 20.0)], **words)
    assert (empty.title, full.title) == ("made / none-yet", "made / test")
    table = tables.all_metrics(full)[0]
    assert [(line.msi_bands, line.method) for line in table.rows] == [(n, name) for n in (4, 6) for name in ("zeta", "gsa")]
    assert math.isnan(cells(table, "psnr_db")[6, "gsa"].value)
    assert cells(table, "psnr_db")[6, "gsa"].notes == (NO_ROW,)
    assert all(math.isnan(cell.value) for one in tables.scenarios(empty) for line in one.rows for cell in line.cells)


def test_robustness_columns_and_average():
    levels = [("none", INF, 30.0), ("both", 45.0, 28.0), ("both", 25.0, 20.0), ("lr_hsi", 25.0, 24.0)]
    rows = [row("gsa", psnr, target=target, snr=snr) for target, snr, psnr in levels]
    rows += [row("bicubic", 10.0), row("bicubic", 9.0, target="both", snr=45.0)]
    made = {table.name: table for table in [*papers.table_2(section(rows)), *tables.scenarios(section(rows))]}
    assert list(made) == [f"made-test-{name}" for name in ("table-2", "noise-lr-hsi", "noise-lr-hsi-rmse", "noise-both-rmse")]
    table = made["made-test-table-2"]
    assert [(column.key, column.group) for column in table.columns if column.label == "PSNR"] == [
        ("psnr_db_25_dB", "25 dB"), ("psnr_db_45_dB", "45 dB"), ("psnr_db_clean", "clean"), ("psnr_db_average", "average"),
        ("psnr_db_area", "area")]
    assert cells(table, "psnr_db_25_dB")[4, "gsa"].value == 20.0
    assert cells(table, "psnr_db_average")[4, "gsa"].value == pytest.approx(26.0)
    assert math.isnan(cells(table, "psnr_db_average")[4, "bicubic"].value)  # 25 dB is missing: no average of what is there
    assert cells(made["made-test-noise-lr-hsi"], "psnr_db_average")[4, "gsa"].value == pytest.approx(27.0)
    assert not any(column.group == "area" for column in made["made-test-noise-lr-hsi"].columns)  # one level has no width


def test_the_area_is_that_of_the_trapezoids_without_the_clean_level():
    psnr = {15.0: 10.0, 25.0: 20.0, 45.0: 24.0}
    rows = [row("gsa", 90.0), *(row("gsa", value, target="both", snr=snr) for snr, value in psnr.items())]
    area = cells(papers.table_2(section(rows))[0], "psnr_db_area")[4, "gsa"]
    assert area.value == pytest.approx(np.trapezoid(list(psnr.values()), list(psnr)) / 30)
    with_hole = cells(papers.table_2(section([*rows, row("net", 1.0, target="both", snr=15.0)]))[0], "psnr_db_area")
    assert math.isnan(with_hole[4, "net"].value)


def test_average_takes_only_seeds_that_have_every_level():
    rows = [row("gsa", 30.0), row("gsa", 20.0, target="both", snr=25.0), row("gsa", 40.0, seed=1)]
    cell = cells(papers.table_2(section(rows))[0], "psnr_db_average")[4, "gsa"]
    assert cell == Cell(25.0, cell.std, ("over 0 to 1 of 1 images a seed: not ranked",
                                           "over 1 of 2 seeds: not ranked"), ranked=False)


def test_published_figures_stand_beside_measured_ones_only_where_there_are_any():
    rows, costs = [row("net", 30.0), row("gsa", 20.0)], [cost("net")]
    defect = Defect("cut", "number", (), "Cut, not rounded.", {})
    published = {"net": {4: {"psnr_db": Printed(47.123), "macs": Printed(144.77e9),
                             "parameters": Printed(7.44e6, "7.44M", (defect,))}}, "absent": {4: {"sam_deg": Printed(1.0)}}}
    table = papers.table_1(section(rows, costs, published=published))[0]
    keys = [column.key for column in table.columns]
    assert [key for key in keys if key.endswith("_published")] == [
        "psnr_db_msi4_published", "parameters_used_published", "macs_conv_published"]
    assert keys[:2] == ["psnr_db_msi4", "psnr_db_msi4_published"]
    line, gsa = formats.to_markdown(table).splitlines()[2:4]
    assert gsa.startswith("| gsa | <u>20.00</u> |  |")  # nothing printed: blank, not a hole
    assert line.startswith("| net | **30.00** | 47.123 |")  # as printed
    assert "| 7.450 | 7.44<sup>c</sup> | 140.00 | 144.77 | 10.00 | 0.500 | 100 |" in line
    assert "<sup>c</sup> in print: Cut, not rounded" in formats.to_markdown(table)
    assert [key for (_, j) in formats.ranks(table) if (key := keys[j]).endswith("_published")] == []
    assert "published" not in formats.to_markdown(papers.table_1(section(rows, costs))[0])


def test_errors_in_several_native_units_have_no_mean_and_no_rank():
    """Of flights B in radiance and C in reflectance; the unit range has a mean."""
    rows = [row(method, psnr, image=image, snr=snr, target=target) | {"dataset": "aviris", "split": "test-other-flight"}
            for method, psnr in (("gsa", 20.0), ("bicubic", 10.0)) for image in ("abu_urban_1", "jasper_ridge")
            for snr, target in ((INF, "none"), (30.0, "both"))]
    asked = section(rows, methods=("gsa", "bicubic", "never-run"))
    (metrics,), (main,), made = tables.all_metrics(asked), papers.table_1(asked), tables.scenarios(asked)
    for table, key, bands in ((metrics, "rmse", 4), (main, "rmse_msi4", 0)):
        held = cells(table, key)
        assert math.isnan(held[bands, "gsa"].value) and held[bands, "gsa"].notes == (NO_MEAN,)
        assert held[bands, "never-run"].notes == (NO_ROW,)
        j = [column.key for column in table.columns].index(key)
        assert not any(place == j for _, place in formats.ranks(table))
    assert cells(metrics, "rmse_unit")[4, "gsa"].value == 0.01
    assert [(table.name[-18:], {column.unit for column in table.columns}) for table in made] == [
        ("ht-noise-both-rmse", {"unit range"})]
    views = Split("aviris", "test-other-flight, LANDSAT", ("a",), view="LANDSAT")  # the same scenes seen in another way
    assert not views.one_unit and Split("aviris", "test-same-flight", ("a",)).one_unit


@pytest.mark.parametrize("name", datasets.names())
def test_the_splits_of_several_native_units_are_those_of_the_data_sets(name, tmp_path):
    for build in registered(name).miniature(tmp_path)[0]:
        data = build()
        for split in {split for split, entries in data.splits().items() if entries} - {"train", "val"}:
            units = {scene.units for scene in data.load(split)}
            assert (len(units) < 2) == Split(name, split, ()).one_unit, (split, units)


def test_what_a_column_is_stands_at_its_heading_in_every_form():
    rows = [row("gsa", 20.0), row("net", 30.0)]
    costs = [cost("gsa", gflops_achieved=12.5, gflops_ceiling=50.0), cost("net")]
    asked = section(rows, costs, published={"net": {4: {"memory_mb": Printed(1.0), "rmse": Printed(3.0)}}})
    found = {table.name: table for table in (*tables.all_metrics(asked), *papers.table_1(asked), *tables.costs(asked))}
    told = {name: {column.label: column.notes for column in table.columns if column.notes} for name, table in found.items()}
    assert told == {"made-test-metrics": {"RMSE": (tables.NATIVE,)},
                    "made-test-table-1": {"RMSE": (tables.NATIVE,), "Peak memory": (tables.BEYOND,)},
                    "study-costs": {"Peak memory": (tables.BEYOND,), "Achieved": (tables.COUNTED,),
                                    "Of the ceiling": (tables.COUNTED,)}}
    table = found["study-costs"]
    assert "| Peak memory (MB)<sup>a</sup> | Achieved (GFLOP/s)<sup>b</sup> | Of the ceiling (%)<sup>b</sup> |" in \
        formats.to_markdown(table)
    assert f"<sup>a</sup> {tables.BEYOND}" in formats.to_markdown(table)
    assert r"\shortstack[r]{Peak\\memory\\(MB)$^{a}$}" in formats.to_latex(table, "tiny")
    assert rf"$^{{a}}$ {tables.BEYOND}." in formats.to_latex(table, "tiny")
    page = formats.to_html(table)
    assert '<th scope="col">Peak memory<sup><a href="#study-costs-a">a</a></sup><small>MB</small></th>' in page
    assert f'<li id="study-costs-a"><sup>a</sup> {tables.BEYOND}</li>' in page


def test_costs_are_of_the_largest_size_and_by_device():
    costs = [cost("gsa", hr_size=32, parameters=1.0), cost("gsa", seconds_median=2.0),
             cost("gsa", device="cuda", seconds_median=0.25), cost("bicubic", status="failed", parameters=math.nan)]
    table = tables.costs(section([row("gsa", 20.0), row("bicubic", 10.0)], costs))[0]
    assert cells(table, "parameters")[4, "gsa"].value == 8748718
    assert cells(table, "seconds_median@cpu-float32")[4, "gsa"].value == 2.0
    assert cells(table, "seconds_median@cuda-float32")[4, "gsa"].value == 0.25
    assert cells(table, "parameters")[4, "bicubic"].notes == ("its cost job failed",)
    assert "LR 64 to HR 256 pixels a side, on A: cpu (float32); B: cuda (float32)." in table.caption
    assert [column.label for column in table.columns[-8:]] == [
        f"{words} {letter}" for letter in "AB" for words in ("Time", "Peak memory", "Achieved", "Of the ceiling")]
    alone = tables.costs(section([row("gsa", 20.0)], costs[1:2]))[0]
    assert [column.label for column in alone.columns[-4:-2]] == ["Time", "Peak memory"] and "on cpu (float32)" in alone.caption


def test_uncounted_operations_are_told():
    made = tables.costs(section([row("gsa", 1.0), row("net", 1.0)],
                                [cost("net", uncounted_ops="svd"), cost("gsa")]))[0]
    assert cells(made, "macs_conv")[4, "net"].notes == ("not counted: svd",)
    assert cells(made, "macs_conv")[4, "gsa"].notes == ()


def test_caption_tells_the_conditions():
    rows = [row("gsa", 20.0, image=image, seed=seed) for image in "ab" for seed in (0, 1)]
    table = tables.all_metrics(section(rows, statements=("not comparable",)))[0]
    assert table.caption == "Clean scenes: every metric."  # the page says no more below each table
    caption = table.conditions
    assert caption in formats.to_markdown(table) and formats.tex(caption) in formats.to_latex(table, "tiny")
    assert "n = 2 images, seeds 0, 1; protocol paper p1; measured on cpu." in caption
    assert caption.endswith("not comparable.")


# --------------------------------------------------------------------------------------------------------- exact texts

SMALL = Table("small", "Small", "Two methods_1.", (Column("psnr_db", "PSNR", "dB", "up", 2),
                                                   Column("sam_deg", "SAM", "deg", "down", 3),
                                                   Column("macs", "MACs", "G", "", 2, 1e9),
                                                   Column("macs_published", "published", "G", "", 2, 1e9, True)),
              (Row(4, "a_b", (Cell(30.001, 0.25), Cell(1.5, notes=("stale",)), Cell(1.4e9), Cell(1.4e9)), kind="blind"),
               Row(4, "c", (Cell(29.0), Cell(1.25), Cell(2.5e9), Cell()), kind="blind"),
               Row(4, "d", (Cell(30.0), Cell(notes=("no row",)), Cell(notes=("no row",)), Cell()), kind="blind"),
               Row(6, "c", (Cell(INF), Cell(0.0), Cell(), Cell()), kind="blind")))
LEGEND = ("Bold: best, underlined: second best of the rows with the same number of MSI bands, of one kind: blind (not told the "
          "responses); ties share a mark.")


def test_csv_text_is_raw_numbers():
    assert formats.to_csv(SMALL) == (
        "msi_bands,method,psnr_db,psnr_db_std,sam_deg,sam_deg_std,macs,macs_published\n"
        "4,a_b,30.001,0.25,1.5,,1400000000,1400000000\n"
        "4,c,29.0,,1.25,,2500000000,\n"
        "4,d,30.0,,,,,\n"
        "6,c,inf,,0.0,,,\n")


def test_markdown_text():
    assert formats.to_markdown(SMALL) == (
        "| MSI bands | Method | PSNR ↑ (dB) | SAM ↓ (deg) | MACs (G) | published (G) |\n"
        "| ---: | --- | ---: | ---: | ---: | ---: |\n"
        "| 4 | a_b | **30.00 ± 0.25** | <u>1.500</u><sup>a</sup> | 1.40 | 1.4 |\n"  # 30.001 ties with 30
        "| 4 | c | <u>29.00</u> | **1.250** | 2.50 |  |\n"
        "| 4 | d | **30.00** | —<sup>b</sup> | —<sup>b</sup> |  |\n"
        "| 6 | c | ∞ | 0.000 | — |  |\n"  # alone among six bands: no mark
        "\n"
        f"Two methods_1. {LEGEND}\n"
        "\n"
        "<sup>a</sup> stale  \n"
        "<sup>b</sup> no row  \n")


def test_latex_text():
    assert formats.to_latex(SMALL, "quick") == "\n".join([
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table*}[t]",
        r"  \centering\setlength{\belowcaptionskip}{4pt}",
        rf"  \caption{{Two methods\_1. {LEGEND}}}",
        r"  \label{tab:quick-small}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"  \begin{tabular}{lrrrr}",
        r"    \toprule",
        r"    Method & \shortstack[r]{PSNR $\uparrow$\\(dB)} & \shortstack[r]{SAM $\downarrow$\\(deg)} & "
        r"\shortstack[r]{MACs\\(G)} & \shortstack[r]{published\\(G)} \\",
        r"    \midrule",
        r"    \multicolumn{5}{l}{\emph{4 MSI bands}} \\",
        r"    a\_b & \textbf{30.00 $\pm$ 0.25} & \underline{1.500}$^{a}$ & 1.40 & 1.4 \\",
        r"    c & \underline{29.00} & \textbf{1.250} & 2.50 &  \\",
        r"    d & \textbf{30.00} & ---$^{b}$ & ---$^{b}$ &  \\",
        r"    \midrule",
        r"    \multicolumn{5}{l}{\emph{6 MSI bands}} \\",
        r"    c & $\infty$ & 0.000 & --- &  \\",
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"  \par\smallskip\footnotesize $^{a}$ stale.",
        r"  \par\smallskip\footnotesize $^{b}$ no row.",
        r"\end{table*}",
    ]) + "\n"


def test_an_infinite_score_is_best_and_has_no_deviation():
    rows = [row("gsa", INF), row("gsa", INF, seed=1), row("bicubic", 10.0)]
    table = tables.all_metrics(section(rows))[0]
    cell = cells(table, "psnr_db")[4, "gsa"]
    assert cell.value == INF
    assert math.isnan(cell.std)
    assert "| 4 | gsa | **∞** |" in formats.to_markdown(table)


@pytest.mark.parametrize(("value", "text"), [(1234.4, "1234"), (12.345, "12.3"), (0.012345, "0.0123"), (0.0, "0.000"),
                                             (999.96, "1000")])
def test_three_significant_digits(value, text):
    assert formats.number(value, Column("rmse", "RMSE")) == text


def counts(method, parameters, published, difference=2e-7, **values):
    return {"method": method, "golden_difference": difference, "tolerance": 1e-5, "msi_bands": 4, "parameters_used": parameters,
            "parameters_published": published, "macs_conv": 1e9, "macs_published": 1e9, "macs_attention": 0.0,
            "verdict": "equals its release", "reason": "none", "revision": "0123456789abcdef"} | values


def test_costs_say_what_share_of_the_machine_is_reached_and_old_rows_have_a_dash():
    costs = [cost("net", gflops_achieved=12.5, gflops_ceiling=50.0), cost("old"),
             cost("free", parameters=0, macs_conv=math.nan, gflops_achieved=math.nan, gflops_ceiling=50.0)]
    rows = [row(one["method"], 20.0) for one in costs]
    (table,) = tables.costs(section(rows, costs))
    achieved, share = (cells(table, key) for key in ("gflops_achieved", "gflops_share"))
    assert achieved[4, "net"] == Cell(12.5) and share[4, "net"] == Cell(25.0)
    for method, why in (("old", "not recorded"), ("free", "no network whose multiply-adds could be counted")):
        assert all(math.isnan(held[4, method].value) and held[4, method].notes == (why,) for held in (achieved, share))
    (alone,) = tables.costs(section(rows, costs[1:2]))  # no row has the columns
    assert cells(alone, "gflops_share")[4, "old"].notes == ("not recorded",)
    assert "| old |" in formats.to_markdown(alone).replace("| 4 ", "") and "—" in formats.to_markdown(alone)
    (twice,) = tables.costs(section(rows[:1], [costs[0], cost("net", device="gpu", gflops_achieved=9.0, gflops_ceiling=90.0)]))
    assert cells(twice, "gflops_share@cpu-float32")[4, "net"].value == 25.0
    assert cells(twice, "gflops_share@gpu-float32")[4, "net"].value == 10.0


def test_fidelity_tells_the_difference_in_percent_and_why():
    rows = [counts("near", 1.009e6, 1e6), counts("far", 2e6, 1e6, reason="counted twice"), counts("odd", 1e6, 2e6),
            counts("free", 1e6, math.nan, math.nan, macs_published=math.nan, verdict="no release to compare with"),
            counts("not asked for", 1e6, 1e6)]
    expected = {"methods": ["near", "far", "odd", "free"]}
    whole, _ = sections(facts(methods=expected["methods"], marks={"free": "described"}), Rows(fidelity=pd.DataFrame(rows)))
    (table,) = tables.fidelity(whole)
    percent = cells(table, "parameters_percent")
    assert percent[4, "near"].value == pytest.approx(0.9) and percent[4, "near"].notes == ()
    assert percent[4, "far"] == Cell(pytest.approx(100.0), notes=("counted twice",))
    assert percent[4, "odd"] == Cell(pytest.approx(-50.0), notes=("the reason is not known",))
    assert math.isnan(percent[4, "free"].value) and percent[4, "free"].notes == ()
    assert cells(table, "golden_difference")[4, "free"].notes == ("no release to compare with",)
    assert [line.method for line in table.rows] == expected["methods"]
    text = formats.to_markdown(table)
    assert "| free (described) |" in text and "0123456789ab" in text and "0.200" in text
    assert tables.fidelity(section([row("gsa", 1.0)])) == []


def test_a_network_that_differs_is_told():
    rows = [counts("wrong", 1e6, 1e6, 0.5, verdict="DIFFERS from its release")]
    whole, _ = sections(facts(methods=("wrong",)), Rows(fidelity=pd.DataFrame(rows)))
    cell = cells(tables.fidelity(whole)[0], "golden_difference")[4, "wrong"]
    assert cell == Cell(0.5, notes=("DIFFERS from its release",))


def test_what_is_optimised_for_each_image_is_timed_where_it_is_scored():
    rows = [row("gsa", 1.0), row("cucanet", 1.0), row("cucanet", 1.0, image="b") | {"seconds": 0.3}]
    table = tables.costs(section(rows, [cost("gsa"), cost("cucanet", seconds_median=math.nan)]))[0]
    times = cells(table, "seconds_median")
    assert times[4, "gsa"] == Cell(0.5)
    assert times[4, "cucanet"].value == pytest.approx(0.2) and "scored images" in times[4, "cucanet"].notes[-1]


def test_times_of_table_1_are_of_the_machine_that_measured_most():
    rows = [row("gsa", 1.0), row("cucanet", 1.0)]
    costs = [cost("gsa", device="cuda", seconds_median=9.0), cost("gsa"), cost("cucanet", seconds_median=math.nan)]
    table = papers.table_1(section(rows, costs, published={"cucanet": {4: {"seconds": Printed(2070.0)}}}))[0]
    keys = [column.key for column in table.columns if column.key.startswith("seconds")]
    assert keys == ["seconds_median", "seconds_median_published"] and "on cpu (float32)" in table.caption
    assert cells(table, "seconds_median")[0, "gsa"].value == 0.5
    assert cells(table, "seconds_median_published")[0, "cucanet"].value == 2070


def timed(method, recording, case="case1", verdict="equals its reference", **values):
    return {"method": method, "recording": recording, "case": case, "msi_bands": 4, "psnr_db": 30.0, "psnr_recorded": 30.0,
            "sam_deg": 1.0, "sam_recorded": 1.0, "sample_difference": 1e-14, "seconds": 0.5, "seconds_recorded": 4.0,
            "times_faster": 8.0, "threads": 1, "verdict": verdict, "revision": "0123456789abcdef"} | values


def test_a_table_a_recorded_case_tells_what_differs():
    rows = [timed("gsa", "GSA"), timed("cnmf", "CNMF", verdict="within the spread of its seeds"), timed("gsa", "GSA", "large"),
            timed("not asked for", "X")]
    whole, _ = sections(facts(methods=("gsa", "cnmf")), Rows(recorded=pd.DataFrame(rows)))
    large, case1 = tables.recorded(whole)
    assert [line.method for line in large.rows] == ["gsa: GSA"] and "0123456789ab" in large.caption
    assert [line.method for line in case1.rows] == ["gsa: GSA", "cnmf: CNMF"]
    assert cells(case1, "psnr_db")[4, "cnmf: CNMF"] == Cell(30.0, notes=("within the spread of its seeds",))
    assert cells(case1, "times_faster")[4, "gsa: GSA"] == Cell(8.0)
    assert tables.recorded(section([row("gsa", 1.0)])) == []


def test_marks_stand_behind_the_name_in_every_form_but_the_csv():
    marked = replace(SMALL, rows=tuple(replace(line, mark="blind" if line.method == "c" else "") for line in SMALL.rows))
    assert "| c (blind) |" in formats.to_markdown(marked) and "    c (blind) &" in formats.to_latex(marked, "quick")
    assert '<th scope="row">c <small>blind</small></th>' in formats.to_html(marked)
    assert formats.to_csv(marked) == formats.to_csv(SMALL)
    assert tables.all_metrics(section([row("gsa", 1.0)], marks={"gsa": "blind"}))[0].rows[0].mark == "blind"


def test_names_of_variants_are_escaped_in_every_form():
    name = 'net@depths=(1,2),mode=a|b_<"&%$'
    table = Table("t", "T", "C", SMALL.columns[:1], (Row(4, name, (Cell(1.0),)),))
    assert list(csv.reader(io.StringIO(formats.to_csv(table))))[1][1] == name
    assert formats.to_markdown(table).splitlines()[2] == '| 4 | net@depths=(1,2),mode=a\\|b_\\<"&%$ | 1.00 |'
    assert r'net@depths=(1,2),mode=a\textbar{}b\_\textless{}"\&\%\$ & 1.00' in formats.to_latex(table, "my study%")
    assert r"\label{tab:my-study-t}" in formats.to_latex(table, "my study%")
    assert "mode=a|b_&lt;&quot;&amp;%$</th>" in formats.to_html(table)

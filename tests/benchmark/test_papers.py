"""The tables of the papers on tiny fixed rows: their text, their order, and what is never set beside what."""

import numpy as np
import pandas as pd
import pytest

from benchmark.page import formats, papers
from benchmark.page.artefacts import ARTEFACTS
from benchmark.page.cells import Cell
from benchmark.page.section import Rows, sections
from benchmark.published import Printed, figures, published
from tests.benchmark.test_plots import curve, lines
from tests.benchmark.test_tables import cells, cost, facts, row, section

TEACHER, STUDENT = "s3rnet-teacher", "s3rnet-student"


def lines_of(table):
    """The rows of a table as Markdown, without caption and notes."""
    return formats.to_markdown(table).split("\n\n")[0].splitlines()


def test_table_1_has_the_band_counts_side_by_side_and_costs_once():
    rows = [row("net", 30.0), row("net", 33.0, msi_bands=6), row("gsa", 20.0), row("gsa", 21.0, msi_bands=6)]
    costs = [cost("net"), cost("net", msi_bands=6, parameters_used=1)]
    (table,) = papers.table_1(section(rows, costs, published={"net": {4: {"psnr_db": Printed(35.544)}}}, msi_bands=(4, 6)))
    assert formats.groups(table) == [("4 MSI bands", 4), ("6 MSI bands", 3), ("cost, 4 MSI bands", 5)]
    assert lines_of(table)[2:] == [
        "| net | **30.00** | 35.544 | 2.000 | 10.0 | **33.00** | 2.000 | 10.0 | 7.450 | 140.00 | 10.00 | 0.500 | 100 |",
        "| gsa | <u>20.00</u> |  | 2.000 | 10.0 | <u>21.00</u> | 2.000 | 10.0 | —<sup>c</sup> | —<sup>c</sup> | "
        "—<sup>c</sup> | —<sup>c</sup> | —<sup>c</sup> |",
    ]


def test_below_the_study_s_methods_stand_the_printed_rows_of_table_i_that_it_has_not():
    held = {STUDENT: figures(STUDENT)}
    (table,) = papers.table_1(section([row(STUDENT, 30.0), row("gsa", 20.0)], published=held))
    plain = (STUDENT, "gsa", "pzres-net", "mssjfl", "dual-unet", "dhif-net", "cucanet", "usdn", "u2mdn", TEACHER,
             "s3rnet-teacher-large", "s3rnet-student-large")
    assert [(line.method, line.mark) for line in table.rows] == [
        *((name, "") for name in plain), *((f"s3rnet-{name}-large", "extended training") for name in ("teacher", "student"))]
    large = [line.cells for line in table.rows if line.method == "s3rnet-student-large"]
    keys = [column.key for column in table.columns]
    assert [cells[keys.index("psnr_db_msi4_published")].value for cells in large] == [35.548, 35.954]
    assert all(cells[keys.index("psnr_db_msi4")] == papers.ABSENT for cells in large)
    dhif = next(line.cells for line in table.rows if line.method == "dhif-net")
    assert dhif[keys.index("peak_memory_mb_published")].value == 29381  # of Table I; the release prints another
    for rows, words in (([row("gsa", 20.0)], {}), ([row(STUDENT, 30.0)], {"arguments": {STUDENT: {"width": 16}}})):
        assert len(papers.table_1(section(rows, **words))[0].rows) == 1


@pytest.mark.parametrize("table", ["table_1", "table_long"])
def test_what_is_printed_of_a_network_that_is_built_otherwise_is_a_footnote(table):
    rows = [row("hyper-transformer", 20.0), row(STUDENT, 30.0)]
    (made,) = getattr(papers, table)(section(rows, published={STUDENT: figures(STUDENT)},
                                             arguments={"hyper-transformer": {"width": 16}}))
    for key in ("psnr_db_msi4_published", "macs_conv_published"):
        printed = cells(made, key)
        assert printed[0, "hyper-transformer"] == papers.OTHERWISE and printed[0, STUDENT].value > 0
    assert papers.OTHERWISE.notes[0] in formats.to_markdown(made)


def test_a_caption_says_which_table_or_figure_of_the_papers_has_its_shape():
    rows = [row("gsa", 20.0), row("gsa", 15.0, target="both", snr=25.0)]
    for name, shape in (("table-1", "Table I"), ("table-2", "Table II"), ("figure-8", "one of Figures 6 to 9"),
                        ("figure-10", "Figure 10")):
        made = ARTEFACTS[name].make(section(rows, [cost("gsa")]))
        assert made and all(one.caption.endswith(f" Shape: {shape} of the CSAKD preprint.") for one in made)
    assert not any("Shape" in one.caption for one in ARTEFACTS["metrics"].make(section(rows)))


def test_the_headings_stand_above_their_columns_in_every_form():
    rows = [row("gsa", 20.0), row("gsa", 21.0, msi_bands=6)]
    (table,) = papers.table_1(section(rows, msi_bands=(4, 6)))
    assert lines_of(table)[0].startswith("| Method | 4 MSI bands: PSNR ↑ (dB) | 4 MSI bands: SAM ↓ (deg) |")
    latex = formats.to_latex(table, "tiny")
    assert r"& \multicolumn{3}{c}{4 MSI bands} & \multicolumn{3}{c}{6 MSI bands} & \multicolumn{5}{c}{cost, 4 MSI bands} \\" \
        in latex
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7} \cmidrule(lr){8-12}" in latex
    assert '<th scope="colgroup" colspan="3" class="group">6 MSI bands</th>' in formats.to_html(table)
    assert formats.to_csv(table).splitlines()[0].startswith("method,psnr_db_msi4,psnr_db_msi4_std,sam_deg_msi4,")
    assert "0 MSI bands" not in formats.to_html(table) + latex


def test_the_long_table_has_the_release_s_17_methods_in_its_order_with_holes():
    (table,) = papers.table_long(section([row(STUDENT, 30.0), row("gsa", 20.0)]))
    assert [line.method for line in table.rows] == [
        "pzres-net", "mssjfl", "dual-unet", "dhif-net", "fusformer", "hyper-transformer", "hyper-refiner", "u2net", "qrcode",
        "fusion-mamba", "cucanet", "usdn", "u2mdn", "psdnet-oracle", "psdnet", TEACHER, STUDENT]
    psnr, printed = cells(table, "psnr_db_msi4"), cells(table, "psnr_db_msi4_published")
    assert psnr[0, STUDENT].value == 30.0 and psnr[0, "u2net"] == papers.ABSENT
    assert printed[0, "u2net"].value == figures("u2net")[4]["psnr_db"].value == 25.622
    assert papers.table_long(section([row("gsa", 20.0)])) == []


def test_intervals_stand_behind_means_of_five_images_and_else_the_caption_says_why():
    rows = [row("gsa", psnr, image=image) for image, psnr in zip("abcde", (20.0, 21.0, 22.0, 23.0, 29.0))]
    (table,) = papers.table_1(section(rows))
    low, high = cells(table, "psnr_db_msi4")[0, "gsa"].interval
    assert 20.0 < low < 23.0 < high < 29.0 and "bootstrap" in table.caption
    assert f"23.00 [{low:.2f}, {high:.2f}]" in lines_of(table)[2]
    head, first = (line.split(",") for line in formats.to_csv(table).splitlines()[:2])
    assert float(first[head.index("psnr_db_msi4_low")]) == low and float(first[head.index("psnr_db_msi4_high")]) == high
    (few,) = papers.table_1(section(rows[:4]))
    assert "No intervals: 4 images, 5 are needed." in few.caption and cells(few, "psnr_db_msi4")[0, "gsa"].interval is None


def test_below_a_method_stands_what_table_ii_prints_of_it_unranked():
    levels = {25.0: 20.0, 45.0: 29.0}
    rows = [one for name in (STUDENT, "gsa") for one in
            (row(name, 30.0), *(row(name, psnr, target="both", snr=snr) for snr, psnr in levels.items()))]
    (table,) = papers.table_2(section(rows))
    peers = ("pzres-net", "mssjfl", "dual-unet", "dhif-net")  # the study has none of them
    assert [(line.method, line.published) for line in table.rows] == [
        (STUDENT, False), (STUDENT, True), ("gsa", False), *((name, True) for name in peers)]
    assert [line.cells[0].value for line in table.rows[3:]] == [22.417, 23.553, 19.944, 24.526]
    printed = dict(zip((column.key for column in table.columns), table.rows[1].cells))
    own = {each.place["snr_db"]: each.values for each in published().tables["csakd-table-2"].rows if each.method == STUDENT}
    for key, level in (("25_dB", 25), ("45_dB", 45), ("clean", "inf"), ("average", "average")):
        assert all(printed[f"{metric}_{key}"].value == own[level][metric] for metric in ("psnr_db", "sam_deg"))
    assert "| s3rnet-student (published) | 27.632 | " in lines_of(table)[3]
    assert not any(i == 1 for i, _ in formats.ranks(table))
    (built,) = papers.table_2(section(rows, arguments={STUDENT: {"width": 16}}))  # not the paper's network
    assert not any(line.published for line in built.rows)
    assert built.caption.endswith(f"Without its printed row, since built otherwise: {STUDENT}.")
    six = [one | {"msi_bands": 6} for one in rows]  # the prints are of 4 bands: they stand in that panel
    (both,) = papers.table_2(section([*rows, *six]))
    assert [(line.msi_bands, line.method) for line in both.rows][-2:] == [(6, STUDENT), (6, "gsa")]
    assert [line.msi_bands for line in both.rows] == sorted(line.msi_bands for line in both.rows)


def variants(base, words, psnr=20.0):
    return [row(f"{base}@{word}" if word else base, psnr + i) for i, word in enumerate(words)]


def test_table_3_in_the_order_of_the_paper_teacher_beside_student():
    names = ("", "recipe=sam-0.5", "recipe=naive", "recipe=beba-0.5")
    rows = [*variants(TEACHER, names), *variants(STUDENT, (*names, "recipe=alone"), 10.0)]
    (table,) = papers.table_3(section(rows))
    assert [line.method for line in table.rows] == ["naive", "BEBA 0.5", "SAM 0.5", "proposed", "alone"]
    assert [cell.value for cell in cells(table, f"{TEACHER}_psnr_db").values()][:4] == [22.0, 23.0, 21.0, 20.0]
    assert [cell.value for cell in cells(table, f"{STUDENT}_psnr_db").values()] == [12.0, 13.0, 11.0, 10.0, 14.0]
    for key, printed in ((f"{STUDENT}_psnr_db", [19.266, 35.021, 34.906, 35.544]),
                         (f"{TEACHER}_sam_deg", [8.145, 1.565, 1.561, 1.527])):
        assert [cell.value for cell in cells(table, f"{key}_published").values()][:4] == printed
    assert lines_of(table)[2].startswith("| 4 | naive | <u>22.00</u> | 20.43<sup>b,c</sup> | 2.000 | 8.145<sup>b,c</sup> | ")
    (reduced,) = papers.table_3(section(rows, arguments={each: {"width": 16} for each in {one["method"] for one in rows}}))
    assert not any(column.published for column in reduced.columns)
    assert papers.table_3(section([row(STUDENT, 1.0)])) == []
    (main,) = papers.table_1(section(rows))
    assert [line.method for line in main.rows] == [TEACHER, STUDENT]  # what Table III shows is not shown twice


def test_table_4_has_the_depths_with_counts_and_the_proposed_ones_last():
    names = ("", "depths=(2,2,2,2)", "depths=(1,3,3,3)")
    rows = variants(STUDENT, names)
    costs = [cost(one["method"], macs_conv=i * 1e9) for i, one in enumerate(rows, 1)]
    arguments = {rows[1]["method"]: {"depths": (2, 2, 2, 2)}, rows[2]["method"]: {"depths": (1, 3, 3, 3)}}
    (table,) = papers.table_4(section(rows, costs, arguments=arguments))
    assert [line.method for line in table.rows] == ["2, 2, 2, 2", "1, 3, 3, 3", "1, 4, 4, 1"]
    assert [cell.value for cell in cells(table, "psnr_db").values()] == [21.0, 22.0, 20.0]
    assert [cell.value for cell in cells(table, "psnr_db_published").values()] == [35.476, 35.528, 35.544]
    assert [cell.value for cell in cells(table, "macs_conv").values()] == [2e9, 3e9, 1e9]
    assert [cell.value for cell in cells(table, "macs_conv_published").values()] == [218e9, 309e9, 144e9]
    assert lines_of(table)[2].startswith("| 4 | 2, 2, 2, 2 | <u>21.00</u> | 35.476 | ")
    assert papers.table_4(section([row(STUDENT, 1.0)])) == []


def test_fusions_are_ranked_within_their_network_from_the_plainest_on():
    words = ("", "fusion=concat", "fusion=sum", "attention=paper,fusion=attention")
    rows = [one | {"scenario": scenario, "noise_target": target, "snr_db": snr} for base in (STUDENT, TEACHER)
            for one in variants(base, words) for scenario, target, snr in (("clean", "none", np.inf), ("noise", "both", 25.0))]
    (table,) = papers.fusions(section(rows))
    assert [(line.method, line.mark) for line in table.rows] == [
        (base, mark) for base in (TEACHER, STUDENT)
        for mark in ("sum", "attention, attention of the paper", "concat", "ssawb, attention of the release")]
    assert [cell.value for cell in (line.cells[0] for line in table.rows)] == [22.0, 23.0, 21.0, 20.0] * 2
    assert {i for (i, j), rank in formats.ranks(table).items() if j == 0 and rank == 1} == {1, 5}
    (second,) = papers.table_2(section(rows))
    assert {line.method for line in second.rows if not line.published} == {TEACHER, STUDENT}
    drawn = [plot.name for plot in papers.figure_12(section(rows))]
    assert drawn == [f"made-test-figure-12-noise-both-{metric}-msi4" for metric in ("psnr", "sam")]
    axes = papers.figure_12(section(rows))[0].figure.axes[0]
    assert {label.lstrip("_").removeprefix("clean ") for label in lines(axes)} == {
        STUDENT, TEACHER, f"{STUDENT}@fusion=sum", f"{TEACHER}@fusion=sum", "break"}


def test_figure_11_draws_trainings_with_and_without_the_additional_losses():
    methods = (STUDENT, f"{STUDENT}@recipe=naive", f"{STUDENT}@recipe=sam-0.5")
    curves = [one for i, method in enumerate(methods) for one in curve("loss", [3.0 + i, 2.0 + i], method=method)]
    held = facts([row(method, 1.0) for method in methods])
    whole, _ = sections(held, Rows(pd.DataFrame([row(methods[0], 1.0)]), curves=pd.DataFrame(curves)))
    (plot,) = papers.figure_11(whole)
    assert plot.name == "figure-11-losses-msi4"
    drawn = {label: line.get_ydata().tolist() for label, line in lines(plot.figure.axes[0]).items()}
    assert drawn == {methods[0]: [3.0, 2.0], methods[1]: [4.0, 3.0]}
    whole, _ = sections(facts([row(STUDENT, 1.0)]), Rows(curves=pd.DataFrame(curves)))
    assert papers.figure_11(whole) == []


def test_a_printed_defect_is_the_footnote_of_its_cell():
    cell = papers.printed_cell(figures(STUDENT)[4]["memory_mb"])
    assert cell.value == 2146 and any("different memory" in note for note in cell.notes)
    assert papers.printed_cell(Printed(1.0)) == Cell(1.0)


@pytest.mark.parametrize("name", ["table_1", "table_2", "table_long", "fusions", "table_3", "table_4"])
def test_latex_of_every_table_has_as_many_cells_as_columns(name):
    rows = [*variants(STUDENT, ("", "recipe=naive", "depths=(2,2,2,2)", "fusion=sum")),
            *(row(STUDENT, 9.0, target="both", snr=snr) for snr in (25.0, 35.0))]
    for table in getattr(papers, name)(section(rows, [cost(STUDENT)])):
        body = formats.to_latex(table, "tiny").split(r"\toprule")[1].split(r"\bottomrule")[0]
        for line in body.splitlines():
            if line.endswith(r"\\") and "multicolumn" not in line:
                assert len(line.replace(r"\&", "").split("&")) == len(table.columns) + 1


def test_the_leak_is_the_mean_of_the_differences_image_by_image():
    labels = ("u2net@train=flight", "u2net@train=overlapping")
    values = {labels[0]: {"a": 15.0, "b": 16.0}, labels[1]: {"a": 21.0, "b": 20.0}}
    scores = [row(label, value, image=image) for label in labels for image, value in values[label].items()]
    (table,) = papers.leak(section(scores, methods=labels))
    (found,) = table.rows
    assert found.method == "u2net" and [cell.value for cell in found.cells[:3]] == [15.5, 20.5, 5.0]

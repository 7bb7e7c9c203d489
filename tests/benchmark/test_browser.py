"""The page in a real Chromium: nothing scrolls sideways, it sorts and filters, prints whole, and reads without scripts."""

import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from benchmark.page import render as report
from benchmark.page.index import write_index
from benchmark.page.section import Rows
from benchmark.protocol import CLEAN, noise
from benchmark.published import Printed
from methods import available, card
from methods.registry import told
from tests.benchmark.test_plots import curve
from tests.benchmark.test_render import CURVES, FACTS
from tests.benchmark.test_tables import cost, row

webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium here: install the extra 'test'")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver")

NAMES = ("bicubic", "gsa", "hysure", "hysure-blind", "s3rnet-student", "s3rnet-teacher", *available("classical")[:8])
METHODS = tuple(dict.fromkeys(NAMES))
WIDTHS = (390, 1280)
PRINTED = {key: Printed(value) for key, value in {
    "psnr_db": 47.12, "sam_deg": 0.887, "rmse": 12.34, "parameters": 26.81e6, "macs": 941.77e9, "seconds": 2070.0,
    "memory_mb": 12345.0}.items()}  # with these the accuracy table is as wide as it gets


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Folder of reports: a study of two splits and band counts with pictures, curves and long names; and the index."""
    levels = (("none", float("inf")), ("both", 35.0), ("both", 25.0))
    rows = [row(method, 20.0 + i + bands + (0 if split == "test" else -3) - (0 if snr > 99 else 60 / snr), msi_bands=bands,
                split=split, target=target, snr=snr)
            for i, method in enumerate(METHODS) for bands in (4, 6) for split in ("test", "test-other-flight")
            for target, snr in levels if (method, split) != ("gsa", "test")]
    held = replace(FACTS, methods=METHODS, msi_bands=(4, 6), scenarios=(CLEAN, noise("both", 35.0), noise("both", 25.0)),
                   seeds=dict.fromkeys(METHODS, (0,)), kinds={name: told(name) or "trained" for name in METHODS},
                   cards={name: card(name) for name in METHODS}, marks={name: told(name) for name in METHODS},
                   told={name: told(name) for name in METHODS},
                   published={"s3rnet-student": {4: PRINTED}})
    costs = [cost(name, bands, device=device) for name in METHODS for bands in (4, 6)
             for device in ("cpu (a long name of a processor, 1 threads)", "cuda")]
    curves = [*CURVES, *curve("loss", [3.0, 2.0], method="s3rnet-student", msi_bands=6)]
    reports = tmp_path_factory.mktemp("reports")
    report.render(reports / "tiny", held, Rows(pd.DataFrame(rows), pd.DataFrame(costs), pd.DataFrame(curves)))
    write_index(reports)
    return reports


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
                 "disable-component-update", "disable-sync", "disable-dev-shm-usage",
                 f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


@pytest.fixture
def show(driver, pages):
    """Open a page at a width; scripts, media and colours as asked."""
    def opened(name="tiny/index.html", width=1280, scripts=True, media="", scheme="light"):
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                               {"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        driver.get((pages / name).as_uri())
        return driver
    yield opened
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def shown(driver):
    """Names of the rows that can be seen, in their order."""
    return driver.execute_script(
        "return [...document.querySelectorAll('#board tbody tr[data-name]')].filter(row => row.offsetParent !== null)"
        ".map(row => row.dataset.name)")


@pytest.mark.parametrize("name", ["tiny/index.html", "index.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_scrolls_sideways_every_image_loads_and_the_console_is_silent(show, name, width, scheme):
    page = show(name, width, scheme=scheme)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    images = page.execute_script("return [...document.images].map(one => [one.complete && one.naturalWidth > 0, one.alt])")
    assert all(loaded and alt for loaded, alt in images) and len(images) == (10 if name != "index.html" else 0)
    assert page.get_log("browser") == []
    ground, ink = page.execute_script("const look = getComputedStyle(document.body); return [look.backgroundColor, look.color]")
    dark = [sum(map(int, re.findall(r"\d+", colour)[:3])) < 384 for colour in (ground, ink)]
    assert dark == ([True, False] if scheme == "dark" else [False, True])


def test_first_screen_has_title_sentence_and_leaderboard(show):
    for width in WIDTHS:
        top = show(width=width).execute_script("return document.getElementById('leaderboard').getBoundingClientRect().top")
        assert top < 900


def test_sorts_by_click_and_by_keyboard_holes_last(show):
    page = show()
    by_psnr = [*(name for name in reversed(METHODS) if name != "gsa"), "gsa"]  # each is better than the one before; gsa a hole
    assert shown(page) == by_psnr
    psnr, _, _, other = page.find_elements("css selector", "#board thead tr + tr button")[:4]
    assert psnr.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    psnr.click()
    assert shown(page) == [*by_psnr[-2::-1], "gsa"]
    other.send_keys("\ue007")  # Enter
    assert shown(page) == list(reversed(METHODS))
    assert other.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    assert psnr.find_element("xpath", "..").get_attribute("aria-sort") is None
    psnr.click()
    assert shown(page) == by_psnr  # also from an order in which the hole was not the last
    page.find_element("css selector", "#board thead th button").click()
    assert shown(page) == sorted(METHODS)


def test_filters_by_kind_and_name_and_switches_bands(show):
    page = show()
    box = page.find_element("css selector", "[data-filter=name]")
    box.send_keys("HYSURE")
    assert sorted(shown(page)) == ["hysure", "hysure-blind"]
    page.find_element("css selector", "[data-filter=told] option:nth-child(2)").click()
    assert shown(page) == ["hysure-blind"]
    assert page.find_element("css selector", ".controls output").text == "1 method"
    box.clear()
    box.send_keys("\ue003")
    page.find_element("css selector", "[data-filter=told] option:first-child").click()
    page.find_element("css selector", "[data-filter=family] option:last-child").click()
    assert sorted(shown(page)) == ["s3rnet-student", "s3rnet-teacher"]
    first = ("return [...document.querySelectorAll('#board tbody tr[data-name=gsa] td')].filter(x => x.offsetParent)[6]"
             ".textContent")  # PSNR on the second split
    page.find_element("css selector", "[data-filter=family] option:first-child").click()
    assert page.execute_script(first) == "22.00"
    page.find_element("css selector", "label[for=bands-6]").click()
    assert len(shown(page)) == len(METHODS) and page.execute_script(first) == "24.00"


def test_header_and_first_column_stay(show):
    page = show(width=390)
    place = ("const box = document.querySelector('.board'), at = box.getBoundingClientRect(); box.scrollTo(200, 150);"
             "const name = document.querySelector('#board tbody tr[data-name] th').getBoundingClientRect();"
             "const head = document.querySelector('#board thead').getBoundingClientRect();"
             "return [box.scrollLeft, box.scrollTop, Math.round(name.left - at.left), Math.round(head.top - at.top)]")
    across, down, name, head = page.execute_script(place)
    assert across > 50 and down > 50 and (name, head) == (1, 1)  # within the border of the box


def test_curves_tell_values_and_hide_methods(show):
    page = show()
    figure = page.find_element("css selector", ".curves")
    readout = figure.find_element("css selector", ".readout")
    page.execute_script("arguments[0].querySelector('svg[role]').focus()", figure)
    leader = METHODS[-1]
    assert readout.text == f"{leader} {20 + len(METHODS) - 1 + 4:.2f} dB at clean"
    figure.find_element("css selector", "svg[role]").send_keys("\ue012")  # arrow to the left
    assert readout.text == f"{leader} {20 + len(METHODS) - 1 + 4 - 60 / 35:.2f} dB at 35 dB"
    page.execute_script("""const use = arguments[0].querySelector('.series[data-name=bicubic] use').getBoundingClientRect();
        arguments[0].querySelector('svg[role]').dispatchEvent(new PointerEvent('pointermove',
        {clientX: use.x + use.width / 2, clientY: use.y + use.height / 2}))""", figure)
    assert readout.text == f"bicubic {20 + 4 - 60 / 25:.2f} dB at 25 dB"
    box = figure.find_element("css selector", f"[data-toggle='{leader}']")
    line = figure.find_element("css selector", f".series[data-name='{leader}']")
    assert line.is_displayed()
    box.click()
    assert not line.is_displayed()
    box.click()
    assert line.is_displayed()


def test_without_scripts_it_is_sorted_and_has_no_dead_controls(show):
    page = show(scripts=False)
    names = [element.get_attribute("data-name") for element in page.find_elements("css selector", "#board .t0 tr[data-name]")]
    assert names[0] == METHODS[-1] and names[-1] == "gsa"
    assert not page.find_element("css selector", ".controls").is_displayed()
    assert not page.find_element("css selector", ".legend input").is_displayed()
    assert page.find_element("css selector", ".series .line").is_displayed()
    page.find_element("css selector", "label[for=bands-6]").click()  # needs none
    assert page.find_element("css selector", "#board .t1").is_displayed()
    assert not page.find_element("css selector", "#board .t0").is_displayed()


def test_no_table_is_cut_on_a4(show):
    page = show(width=703, media="print")  # the text width of A4 with margins of 12 mm
    cut = page.execute_script("return [...document.querySelectorAll('table')].filter(table => "
                              "table.getBoundingClientRect().right > 703 || getComputedStyle(table.parentElement).overflowX != "
                              "'visible').map(table => table.parentElement.ariaLabel)")
    assert cut == []
    assert page.find_element("css selector", "#board .t0").is_displayed()
    assert page.find_element("css selector", "#board .t1").is_displayed()


def test_a_method_leads_to_its_card(show):
    page = show(width=390)
    page.execute_script("arguments[0].click()", page.find_element("css selector", "#board tr[data-name=gsa] a"))
    top = page.execute_script("return document.querySelector('.card:target').getBoundingClientRect().top")
    assert 0 <= top < 450 and page.find_element("css selector", ".card:target h3").text == "gsa"

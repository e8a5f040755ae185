"""The page in headless Chromium, from a file that is dropped to the table that is downloaded."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

pytest.importorskip("dash")
pytest.importorskip("waitress")
sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


def _chromium() -> str | None:
    """Return a browser that starts: Ubuntu has a stub of that name which only says where to get one."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is None:
            continue
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0:
                return path
    return None


CHROMIUM = _chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]

EXAMPLES = Path(__file__).parents[2] / "examples" / "structures"
GOOD = [EXAMPLES / name for name in ("NaCl.cif", "POSCAR_MgO", "Fe2O3_hematite.cif")]
COMMAND = [sys.executable, "-c", "from ase_matprop.cli import app; app()", "app"]
#: ms; what counts is that it happens
PATIENCE = 1000 * int(os.environ.get("MATPROP_PATIENCE", "120"))


class Server:
    """``matprop app`` in a process of its own, with a folder for temporary files that can be looked at."""

    def __init__(self, folder):
        self.temporary, self.models = folder / "tmp", folder / "models"
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [*COMMAND, "--no-browser", "--port", "0", "--models", str(self.models)],
            env={**os.environ, "TMPDIR": str(self.temporary), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.process.stdout.readline())
        assert found, "the server did not start"
        self.address, self.port = found[0], int(found[1])

    def files(self):
        return [path for path in self.temporary.rglob("*") if path.is_file()]

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("app"))
    yield found
    found.process.kill()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


@pytest.fixture
def faults():
    return []


def open_page(browser, server, faults, **kwargs):
    expect.set_options(timeout=PATIENCE)
    page = browser.new_context(accept_downloads=True, **kwargs).new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    inside = (server.address, "data:", "blob:", "about:")
    page.on("request", lambda request: None if request.url.startswith(inside) else faults.append(request.url))
    page.goto(server.address)
    page.wait_for_selector("#drop-structures-input", state="attached")
    expect(page.locator("#cards")).to_contain_text("Card of")
    return page


@pytest.fixture
def page(browser, server, faults):
    found = open_page(browser, server, faults)
    yield found
    found.context.close()
    assert faults == []  # no script failed, the policy stopped nothing, and nothing came from elsewhere


def give(page, *files):
    page.locator("#notice").evaluate("element => { element.textContent = '' }")
    page.set_input_files("#drop-structures-input", files)
    expect(page.locator("#notice")).not_to_be_empty()
    return page.inner_text("#notice")


def predict(page, *models):
    boxes = page.locator("#models input[type=checkbox]")
    for number in range(boxes.count()):
        boxes.nth(number).set_checked(boxes.nth(number).get_attribute("value") in models)
    page.click("#run")
    expect(page.locator("#predict-text")).to_contain_text(re.compile("Finished"))
    expect(page.locator("table.results")).to_contain_text(models[-1])


def column(page, number):
    cells = page.locator(f"table.results tbody tr > :nth-child({number})").all_inner_texts()
    return [cell.strip().split("\n")[0] for cell in cells]


def payload(name, content):
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def test_upload_predict_sort_filter_download(page, server):
    assert give(page, *GOOD) == "3 entries added."
    predict(page, "irnet17-mp")
    assert column(page, 1) == ["NaCl.cif", "POSCAR_MgO", "Fe2O3_hematite.cif"]
    expect(page.locator(".badge.good").first).to_contain_text("✓ within reach")

    page.get_by_role("button", name="formation energy").focus()
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("formation energy")
    assert column(page, 1) == ["POSCAR_MgO", "NaCl.cif", "Fe2O3_hematite.cif"]
    expect(page.get_by_role("button", name="formation energy")).to_be_focused()  # the keyboard is where it was
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort=descending]")).to_be_visible()
    assert column(page, 1) == ["Fe2O3_hematite.cif", "NaCl.cif", "POSCAR_MgO"]

    page.fill("#filter-text", "fe2")
    expect(page.locator("#count")).to_contain_text("Rows 1 to 1 of 1 (filtered, 3 in all)")
    page.fill("#filter-text", "")
    expect(page.locator("#count")).to_contain_text("of 3;")

    with page.expect_download() as download:
        page.click("#download-csv")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [row["name"] for row in rows] == ["NaCl.cif", "POSCAR_MgO", "Fe2O3_hematite.cif"]
    assert -2.3 < float(rows[0]["formation_energy_per_atom"]) < -1.9  # measured: -2.13 eV/atom (CRC Handbook)
    with page.expect_download() as download:
        page.click("#download-json")
    assert [row["formula"] for row in json.loads(Path(download.value.path()).read_text())] == [
        "Na4Cl4",
        "Mg4O4",
        "Fe12O18",
    ]

    page.get_by_role("button", name="NaCl.cif").click()
    expect(page.locator("#detail")).to_contain_text("Fm-3m (225)")
    expect(page.locator("#structure-figure canvas").first).to_be_visible()
    page.click("#turn-left")
    assert server.files() == []  # what was read is not kept


def test_wrong_files_and_formulas_have_reasons(page, tmp_path):
    bomb, paths = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("POSCAR", bytes(30_000_000))
    with zipfile.ZipFile(paths, "w") as archive:
        archive.writestr("../../../POSCAR", GOOD[1].read_bytes())
        archive.writestr("inner.zip", b"x")
    large = tmp_path / "large.cif"
    with large.open("wb") as stream:
        stream.truncate(200_000_000)
    assert "200 MB, and the page takes 100 MB" in give(page, large)
    give(
        page,
        payload("empty.cif", b""),
        payload("POSCAR", bytes(range(256)) * 10),
        payload("photo.jpg", b"\xff\xd8\xff"),
        payload("<img src=x onerror=alert(1)>.cif", b"rubbish"),
        payload("a.traj", b"\x80\x04."),
        payload("bomb.zip", bomb.getvalue()),
        payload("paths.zip", paths.getvalue()),
    )
    page.fill("#formulas", "Fe2O3, H2O3x, RnF2, <b>Fe</b>")
    page.click("#add-formulas")
    expect(page.locator("#notice")).to_contain_text("2 formulas added. ✕ 2 cannot be read")
    predict(page, "elemnet-mp")
    failures = page.locator("#failures")
    page.locator("#failures details").evaluate("element => { element.open = true }")
    for words in (
        "is an empty file", "binary data", ".jpg file", "no CIF data block", ".traj file", "zip bomb",
        "leads out of the archive", "archive within the archive", "'H2O3x' is no formula", "never saw Rn",
    ):  # fmt: skip
        expect(failures).to_contain_text(words)
    assert page.locator("#main img").count() == 0  # a name is text, whatever is in it
    page.locator("#filter-state").click()
    page.get_by_role("option", name="no mark").click()
    expect(page.locator("#count")).to_contain_text("Rows 1 to 1 of 1")
    assert column(page, 1) == ["Fe2O3"]


def test_five_hundred_structures_at_once(page, tmp_path):
    salts = [(a, b) for a in ("Li", "Na", "K", "Rb", "Cs") for b in ("F", "Cl", "Br", "I")]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(500):
            text = io.StringIO()
            cation, anion = salts[number % len(salts)]
            write(text, bulk(cation + anion, "rocksalt", a=5 + number / 500), format="vasp")
            archive.writestr(f"{number}/POSCAR", text.getvalue())
    assert give(page, payload("all.zip", stream.getvalue())) == "500 entries added."
    predict(page, "nn24-mp")
    expect(page.locator("#count")).to_contain_text("Rows 1 to 50 of 500; 0 failed")
    page.click("#next")
    expect(page.locator("#count")).to_contain_text("Rows 51 to 100 of 500")
    assert column(page, 1)[0] == "all.zip/50/POSCAR"


def test_models_are_compared_with_one_another_and_with_values(page, tmp_path):
    page.fill("#formulas", "Li2O, Fe2O3, LiFeO2, Li5FeO4")
    page.click("#add-formulas")
    expect(page.locator("#notice")).to_contain_text("4 formulas added")
    values = b"formula,measured\nLi2O,-2.07\nFe2O3,-1.71\nO2Li1Fe1,-1.97\n"
    page.set_input_files("#drop-references-input", payload("values.csv", values))
    expect(page.locator("#reference-notice")).to_contain_text("3 of 4 entries have values")
    predict(page, "elemnet-mp", "irnet17-composition-mp")
    expect(page.locator("#comparison table")).to_contain_text("measured (reference)")
    expect(page.locator("#comparison tbody tr")).to_have_count(2)
    expect(page.locator("#comparison .js-plotly-plot")).to_be_visible()
    expect(page.locator("#hull-system")).to_contain_text("Fe-Li-O (4 entries)")
    expect(page.locator("#phases .js-plotly-plot")).to_be_visible()
    expect(page.locator("#phases table")).to_contain_text("on the hull")


def test_tabs_do_not_see_one_another_and_leave_nothing(page, browser, server, faults):
    other = open_page(browser, server, faults)
    give(page, GOOD[0])
    expect(other.locator("#table")).to_contain_text("Nothing here yet")
    folders = {path for path in server.temporary.glob("*/*") if path.is_dir()}
    assert len(folders) >= 2
    other.close(run_before_unload=False)
    page.reload()
    expect(page.locator("#cards")).to_contain_text("Card of")
    expect(page.locator("#table")).to_contain_text("Nothing here yet")
    for _ in range(100):
        if len(folders & set(server.temporary.glob("*/*"))) < len(folders):
            break
        page.wait_for_timeout(100)
    assert len(folders & {path for path in server.temporary.glob("*/*")}) <= len(folders) - 1


def test_stop(page):
    page.fill("#formulas", ",".join(f"Fe{n}O{n + 1}" for n in range(1, 1500)))
    page.click("#add-formulas")
    expect(page.locator("#notice")).to_contain_text("1499 formulas added")
    for box in page.locator("#models input[type=checkbox]").all():
        box.set_checked(True)
    page.click("#run")
    page.click("#stop")
    expect(page.locator("#predict-text")).to_contain_text("Stopped")
    expect(page.locator("#run")).to_be_enabled()


def test_fine_tuning_with_its_report(page):
    page.get_by_label("Fine-tune", exact=True).check()
    page.click("#tune-run")
    expect(page.locator("#tune-text")).to_contain_text("There are no runs yet")
    page.set_input_files("#drop-runs-input", payload("notes.md", b"text"))
    expect(page.locator("#runs-notice")).to_contain_text("notes.md is nothing to learn from")
    metals, others = ("Li", "Na", "K", "Mg", "Ca"), ("O", "S", "F")
    rows = [f"{a}{n}{b},{-0.5 - 0.1 * n}" for a in metals for b in others for n in (1, 2, 3)]
    table = "formula,formation_energy_per_atom\n" + "\n".join(rows) + "\n"
    page.set_input_files("#drop-runs-input", payload("mine.csv", table.encode()))
    expect(page.locator("#runs-notice")).to_contain_text("the table mine.csv")
    page.locator("#tune-model").click()
    page.get_by_role("option", name="elemnet-mp").click()
    page.fill("#tune-name", "my-salts")
    page.fill("#tune-epochs", "2")
    page.get_by_label("train random weights too").uncheck()
    page.click("#tune-run")
    expect(page.locator("#tune-text")).to_contain_text("finished", ignore_case=True)
    report = page.frame_locator("iframe.report")
    expect(report.locator("body")).to_contain_text("my-salts")
    page.get_by_label("Predict", exact=True).check()
    if "can be chosen now" in page.inner_text("#tune-text"):
        expect(page.locator("#models")).to_contain_text("my-salts")


def test_models_are_verified(page):
    page.get_by_label("Models", exact=True).check()
    page.click("#verify")
    expect(page.locator("#models-text")).to_contain_text("11 of 11 models are as they should be")
    expect(page.locator("#downloads")).to_contain_text("sipfenn")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_does_not_scroll_sideways(browser, server, faults, scheme):
    page = open_page(browser, server, faults, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    give(page, *GOOD)
    page.get_by_role("button", name="NaCl.cif").click()
    expect(page.locator("#structure-figure canvas").first).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    low = page.evaluate(CONTRAST)
    assert low == []  # WCAG 2.1, 1.4.3: 4.5 to 1 for text
    page.context.close()
    assert faults == []


#: texts that are shown, with less contrast to what is behind them than 4.5 to 1
CONTRAST = """() => {
  const parts = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const light = (rgb) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("#main *, header *, footer")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || element.closest("svg, :disabled") || !element.getClientRects().length) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(element.outerHTML.slice(0, 120));
  }
  return found;
}"""


def test_second_instance_and_end(server, tmp_path):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(server.address, headers={"Host": "evil.example"}))
    second = subprocess.run(
        [*COMMAND, "--no-browser", "--port", str(server.port)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert f"the port {server.port} is in use" in second.stderr and f"--port {server.port + 1}" in second.stderr
    assert server.close() == 0
    assert server.files() == [] and not list(server.temporary.glob("matprop*"))
    assert not server.models.exists()

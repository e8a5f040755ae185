"""Pictures of the page for docs/app.md, taken in headless Chromium: light, dark, and at phone width.

    python benchmarks/draw_app.py --output docs/figures

Needs the extra ``app``, Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
FILES = ("NaCl.cif", "POSCAR_MgO", "CsCl_and_NiAl.extxyz", "Fe2O3_hematite.cif", "TiO2_rutile.vasp", "CONTCAR_GaAs")
FORMULAS = "Li2O, Fe2O3, LiFeO2, Li5FeO4, FeO, H2O3x, CsNpF6"
#: measured enthalpies of formation at 298 K in eV/atom, CRC Handbook of Chemistry and Physics
VALUES = """name,measured
NaCl,-2.13
POSCAR_MgO,-3.12
Fe2O3,-1.71
Fe2O3_hematite,-1.71
TiO2_rutile,-3.26
Li2O,-2.07
FeO,-1.41
"""
PATIENCE = 600_000  # ms


def take(browser: Any, address: str, *, scheme: str, width: int) -> tuple[Any, Any]:
    """Return a page with predictions, comparisons and an open structure, and its full picture."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    expect(page.locator("#cards")).to_contain_text("Card of")
    page.set_input_files("#drop-structures-input", [ROOT / "examples" / "structures" / name for name in FILES])
    expect(page.locator("#notice")).to_contain_text("added")
    page.fill("#formulas", FORMULAS)
    page.click("#add-formulas")
    expect(page.locator("#notice")).to_contain_text("cannot be read")
    table = {"name": "values.csv", "mimeType": "text/csv", "buffer": VALUES.encode()}
    page.set_input_files("#drop-references-input", table)
    expect(page.locator("#reference-notice")).to_contain_text("entries have values")
    for box in page.locator("#models input[type=checkbox]").all():
        box.set_checked(box.get_attribute("value") in ("irnet17-composition-mp", "elemnet-mp"))
    page.click("#run")
    expect(page.locator("#predict-text")).to_contain_text("Finished")
    expect(page.locator("#phases .js-plotly-plot")).to_be_visible()
    page.get_by_role("button", name="Fe2O3_hematite.cif").click()
    expect(page.locator("#structure-figure canvas").first).to_be_visible()
    page.wait_for_timeout(8_000)  # pictures in three dimensions are drawn slowly without a graphics card
    page.evaluate("() => document.activeElement.blur()")
    return page, Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")


def keep(picture: Any, path: Path, *, width: int) -> None:
    """Write a picture of a width, with few colours."""
    size = (width, round(picture.height * width / picture.width))
    small = picture.resize(size, Image.Resampling.LANCZOS) if width < picture.width else picture
    small.quantize(255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "figures")
    output = parser.parse_args().output
    server = subprocess.Popen(
        [sys.executable, "-c", "from ase_matprop.cli import app; app()", "app", "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        found = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
        address = found[0] if found else ""
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            page, picture = take(browser, address, scheme="light", width=1180)
            end = page.locator("#compare-section").bounding_box()["y"] + page.evaluate("() => scrollY")
            keep(picture.crop((0, 0, 1180, int(end))), output / "app_light.png", width=800)
            page.close()
            page, picture = take(browser, address, scheme="dark", width=1180)
            keep(picture.crop((0, int(end), 1180, picture.height)), output / "app_dark.png", width=800)
            picture.save("/tmp/app_dark_full.png")
            page.close()
            page, picture = take(browser, address, scheme="light", width=360)
            begin = page.locator("#table-section").bounding_box()["y"] + page.evaluate("() => scrollY")
            end = page.locator("#compare-section").bounding_box()["y"] + page.evaluate("() => scrollY")
            keep(picture.crop((0, int(begin), 360, int(end))), output / "app_phone.png", width=360)
            picture.save("/tmp/app_phone_full.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

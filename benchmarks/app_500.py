"""How long the page takes for 500 structures at once: from the drop to the table, in headless Chromium.

    python benchmarks/app_500.py
    python benchmarks/app_500.py --without-browser

Without a browser the server alone is measured, in seconds of one processor, which other programs do not change much.

Needs the extra ``app``, Playwright and Chromium.  The structures are prototypes of two or three elements with 6 to 40
atoms; they are sent as 500 files, and as one zip file.  The models are loaded before the clock starts.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from ase import Atoms
from ase.build import bulk
from ase.io import write
from ase.spacegroup import crystal

N = 500
PATIENCE = 600_000  # ms


def structures() -> list[Atoms]:
    """Return the structures: rock salt, rutile, perovskite and hematite with other elements."""
    found = []
    for number in range(N):
        a = ("Mg", "Ca", "Mn", "Ni", "Zn")[number % 5]
        b = ("O", "S", "F", "Cl")[number // 5 % 4]
        length = 4.0 + 0.002 * number
        match number % 4:
            case 0:
                atoms = bulk(a + b, "rocksalt", a=length, cubic=True)
            case 1:
                atoms = crystal(
                    [a, b], [(0, 0, 0), (0.3, 0.3, 0)], spacegroup=136, cellpar=[length, length, 3, 90, 90, 90]
                )
            case 2:
                places = [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0)]
                atoms = crystal(["Sr", a, b], places, spacegroup=221, cellpar=[length] * 3 + [90] * 3) * (2, 2, 2)
            case _:
                cell = [length + 1, length + 1, 13.7, 90, 90, 120]
                atoms = crystal([a, b], [(0, 0, 0.355), (0.306, 0, 0.25)], spacegroup=167, cellpar=cell)
        found.append(atoms)
    return found


def poscar(atoms: Atoms) -> bytes:
    """Return a structure as the text of a POSCAR."""
    stream = io.StringIO()
    write(stream, atoms, format="vasp", direct=True, sort=True)
    return stream.getvalue().encode()


def without_browser(contents: list[bytes], packed: bytes, names: list[str]) -> None:
    """Measure what the server does, in one thread."""
    import torch

    from ase_matprop.app.jobs import Job
    from ase_matprop.app.predicting import predict_all
    from ase_matprop.app.server import create
    from ase_matprop.app.sessions import Session
    from ase_matprop.app.state import State

    torch.set_num_threads(1)
    state = State(Path("none"))
    client = create(state).server.test_client()
    page = {"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}

    def send(session: Session, name: str, content: bytes) -> None:
        headers = {**page, "X-Session": session.token, "X-File-Name": name}
        assert client.post("/upload?purpose=structures", data=content, headers=headers).status_code == 200

    warm, single, whole = (state.sessions.open() for _ in range(3))
    send(warm, "POSCAR", contents[0])
    begin = time.process_time()
    for number, content in enumerate(contents):
        send(single, f"POSCAR_{number}", content)
    print(f"500 files read: {time.process_time() - begin:.1f} s of one processor")
    begin = time.process_time()
    send(whole, "all.zip", packed)
    print(f"one zip file read: {time.process_time() - begin:.1f} s of one processor")
    for name in names:
        choice = state.choices()[name]
        predict_all(Job(), warm, [choice])
        begin = time.process_time()
        said = predict_all(Job(), whole, [choice])
        print(f"500 predictions of {name}: {time.process_time() - begin:.1f} s of one processor; {said}")
    state.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="nn24-mp,irnet17-mp", help="names with commas between them")
    parser.add_argument("--without-browser", action="store_true", help="measure the server alone")
    arguments = parser.parse_args()
    names = arguments.models.split(",")
    contents = [poscar(atoms) for atoms in structures()]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}/POSCAR", content)
    if arguments.without_browser:
        without_browser(contents, packed.getvalue(), names)
    else:
        with_browser(contents, packed.getvalue(), names)


def with_browser(contents: list[bytes], packed: bytes, names: list[str]) -> None:
    """Measure all of it, in seconds of the clock."""
    from playwright.sync_api import expect, sync_playwright

    kind = "application/octet-stream"
    single = [{"name": f"POSCAR_{n}", "mimeType": kind, "buffer": content} for n, content in enumerate(contents)]
    whole = [{"name": "all.zip", "mimeType": kind, "buffer": packed}]

    server = subprocess.Popen(
        [sys.executable, "-c", "from ase_matprop.cli import app; app()", "app", "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        found = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
        expect.set_options(timeout=PATIENCE)
        print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(found[0] if found else "")
            expect(page.locator("#cards")).to_contain_text("Card of")

            def send(files: list[dict[str, object]], n: int) -> float:
                page.click("#clear")
                expect(page.locator("#table")).to_contain_text("Nothing here yet")
                begin = time.perf_counter()
                page.set_input_files("#drop-structures-input", files)
                expect(page.locator("#count")).to_contain_text(f"of {n}")
                return time.perf_counter() - begin

            def predict(name: str) -> float:
                for box in page.locator("#models input[type=checkbox]").all():
                    box.set_checked(box.get_attribute("value") == name)
                expect(page.locator("#cards")).to_contain_text(f"Card of {name}")
                begin = time.perf_counter()
                page.click("#run")
                expect(page.locator("table.results thead")).to_contain_text(name)
                expect(page.locator("#predict-text")).to_contain_text("Finished")
                return time.perf_counter() - begin

            send(single[:4], 4)
            for name in names:
                predict(name)
            print(f"500 files read: {send(single, N):.1f} s")
            print(f"one zip file read: {send(whole, N):.1f} s")
            for name in names:
                print(f"500 predictions of {name}: {predict(name):.1f} s")
                print(page.inner_text("#count"))
            browser.close()
        print(f"load of the machine after: {os.getloadavg()[0]:.1f}")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

"""The HTML report, parsed as a browser would."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lxml import html

from ase_matprop.errors import MatPropError, MissingDependencyError
from ase_matprop.screening import report
from ase_matprop.screening.results import Results
from ase_matprop.screening.summary import Histogram
from tests.screening.test_results import all_rows, candidates, counts_of, expected_top, write_folder, write_part

RUN: dict[str, Any] = {
    "space": {"kind": "formulas", "elements": ["Li", "Fe", "O"], "max_atoms": 10, "charge_balanced": False},
    "model": {"name": "elemnet-mp", "unit": "eV/atom", "errors": {"test": {"n": 100, "mae": 0.0567}}},
    "references": {"source": "li_fe_o_mp.csv", "n": 61, "functional": "PBE"},
    "cut": 0.1,
}

pytest.importorskip("plotly")
pytest.importorskip("pymatviz")


def page_of(folder: Path, **options: Any) -> Any:
    return html.fromstring(report.write_report(folder, **options).read_text(encoding="utf-8"))


def rows_of(page: Any, section: str) -> list[list[str]]:
    rows = page.xpath(f"//*[@id='{section}']//tr")
    return [[cell.text_content() for cell in row.xpath("./td|./th")] for row in rows]


def test_page_has_everything(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "li-fe-o", **RUN)
    page = page_of(folder, plotly_js="cdn")
    assert page.xpath("//h1")[0].text_content() == "Screening li-fe-o"
    (headline,) = page.xpath("//p[@class='headline']")
    assert headline.text_content() == (
        "600 of 2,694 candidates that elemnet-mp scored were kept: those with a hull distance of at most 0.1 eV/atom. "
        "Its mean absolute error on its test set is 0.0567 eV/atom."
    )
    counts = dict(rows_of(page, "counts"))
    assert (counts["candidates"], counts["taken out by a filter"], counts["scored"]) == ("3,000", "300", "2,694")
    assert (counts["failed"], counts["kept"], counts["shards"]) == ("6", "600", "3 of 3")
    table = all_rows()
    assert rows_of(page, "sizes")[1][:3] == ["2", "1,500", str((table["n_elements"] == 2).sum())]
    best = rows_of(page, "best")
    assert best[0] == [
        "rank", "formula", "system", "formation energy (eV/atom)", "hull distance (eV/atom)", "decomposition",
        "spread", "distance to training set",
    ]  # fmt: skip
    expected = expected_top(table, 50)
    assert [row[1] for row in best[1:]] == expected["formula"].tolist()
    assert best[1][3:6] == [
        f"{expected.formation_energy_per_atom[0]:.4f}", f"{expected.e_above_hull[0]:.4f}", "0.5 Li2O + 0.5 FeO"
    ]  # fmt: skip
    assert rows_of(page, "systems")[1][:2] == [
        str(value) for value in Results(folder).systems().iloc[0][["system", "n_kept"]]
    ]
    failures = rows_of(page, "failures")
    assert failures[1] == ["Xe0F1", "the model has not seen Xe"] and len(failures) == 7
    run = rows_of(page, "run")
    assert (
        ["elements", "Li, Fe, O"] in run
        and ["errors: test: mae", "0.0567"] in run
        and ["source", "li_fe_o_mp.csv"] in run
    )
    assert [title.text_content() for title in page.xpath("//*[@id='run']/h3")] == [
        "space",
        "model",
        "references",
        "run",
    ]
    for figure in ("figure-hull", "figure-elements"):
        assert len(page.xpath(f"//*[@id='{figure}']")) == 1
    assert not list(folder.glob("*.partial"))


def test_plotly_is_in_the_page_once_or_comes_from_the_network(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", **RUN)
    path = report.write_report(folder)
    assert path == folder / "report.html"
    scripts = html.fromstring(path.read_text(encoding="utf-8")).xpath("//script")
    assert not any(script.get("src") for script in scripts)
    assert sum(len(script.text or "") > 1_000_000 for script in scripts) == 1
    again = report.write_report(Results(folder), tmp_path / "other.html")
    assert again.read_bytes() == path.read_bytes()
    small = report.write_report(folder, tmp_path / "small.html", plotly_js="cdn")
    assert small.stat().st_size < 300_000
    (source,) = [script.get("src") for script in html.fromstring(small.read_text()).xpath("//script[@src]")]
    assert "plotly" in source
    with pytest.raises(MatPropError, match="'embedded' or 'cdn'"):
        report.write_report(folder, plotly_js="none")  # type: ignore[arg-type]


def test_run_without_a_hull(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", hull=False, model="schnet-mp")
    page = page_of(folder, plotly_js="cdn")
    assert not page.xpath("//*[@id='figure-hull']") and page.xpath("//*[@id='figure-elements']")
    assert "There was no hull" in page.xpath("//p[@class='caution']")[0].text_content()
    assert rows_of(page, "best")[0][1:4] == ["formula", "system", "formation energy (eV/atom)"]
    assert rows_of(page, "systems")[0][2] == "lowest formation energy (eV/atom)"
    assert "schnet-mp scored were kept." in page.xpath("//p[@class='headline']")[0].text_content()


def test_run_that_kept_what_is_above_a_minimum(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", hull=False, model="schnet-gap", keep={"minimum": 0.5})
    page = page_of(folder, plotly_js="cdn", n_best=5)
    values = [float(row[3]) for row in rows_of(page, "best")[1:]]
    table = pd.concat([candidates(shard, 200, hull=False) for shard in range(3)])
    assert values == table["formation_energy_per_atom"].nlargest(5).round(4).tolist()
    assert rows_of(page, "systems")[0][2] == "highest formation energy (eV/atom)"
    system, _, highest = rows_of(page, "systems")[1]
    assert float(highest) == round(table[table["system"] == system]["formation_energy_per_atom"].max(), 4)
    headline = page.xpath("//p[@class='headline']")[0].text_content()
    assert "were kept: those with a formation energy of at least 0.5 eV/atom." in headline


def test_limits_of_hull_and_property_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", cut=0.1, keep={"e_above_hull": 0.1, "minimum": -3.0, "maximum": 1.0})
    assert "those with a hull distance of at most 0.1 eV/atom and a formation energy of at least -3 and at most 1" in (
        page_of(folder, plotly_js="cdn").xpath("//p[@class='headline']")[0].text_content()
    )


def test_a_sieve_that_was_off_is_a_caution(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", shards=(), n_shards=1)
    write_part(folder, 0, candidates(0, 5), {**counts_of(candidates(0, 5), 0), "n_rescored": 1, "largest_change": 0.2})
    cautions = [entry.text_content() for entry in page_of(folder, plotly_js="cdn").xpath("//p[@class='caution']")]
    assert any(text.startswith("Bfloat16 changed values by up to 0.200") for text in cautions)


def test_unfinished_and_empty_runs(tmp_path: Path) -> None:
    page = page_of(write_folder(tmp_path / "half", shards=(1,), n_shards=3, **RUN), plotly_js="cdn")
    caution = page.xpath("//p[@class='caution']")[0].text_content()
    assert caution.startswith("The run is not finished: 2 of 3 shards are missing (0, 2).")
    page = page_of(write_folder(tmp_path / "empty", shards=(), n_shards=3))
    assert "No candidate was kept." in page.text_content() and not page.xpath("//script")
    folder = write_folder(tmp_path / "nothing", shards=(), n_shards=1)
    write_part(folder, 0, candidates(0, 5).head(0), {**counts_of(candidates(0, 5), 0), "n_kept": 0, "by_element": {}})
    page = page_of(folder, plotly_js="cdn")
    assert page.xpath("//*[@id='figure-hull']") and not page.xpath("//*[@id='figure-elements']")


def test_texts_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    folder = write_folder(tmp_path / "run", shards=(), n_shards=1, space={"file": evil, evil: 1}, model={"name": evil})
    table = candidates(0, 5).assign(warning=evil, decomposition=evil, formula=evil, name=evil, system=evil)
    write_part(folder, 0, table, {**counts_of(candidates(0, 5), 0), "failures": [[evil, evil]]})
    text = report.write_report(folder, plotly_js="cdn").read_text()
    assert evil not in text and text.count("&lt;script&gt;alert") > 20
    page = html.fromstring(text)
    assert rows_of(page, "best")[0][2] == "structure" and rows_of(page, "best")[1][1] == evil
    assert "5 of the 5 best candidates have a warning." in page.text_content()


def test_histogram_shows_the_counts(tmp_path: Path) -> None:
    figure = report.hull_histogram_figure(Histogram([-np.inf, -0.1, 0.0, 0.1, np.inf], [1, 20, 300, 4000]), cut=0.1)
    below, above = figure.data
    np.testing.assert_allclose(below.x, [-0.15, -0.05])
    assert list(below.y) == [1, 20] and list(above.y) == [300, 4000]
    assert list(above.customdata) == ["0 to 0.1 eV/atom", "above 0.1 eV/atom"]
    assert figure.layout.yaxis.type == "log" and len(figure.layout.shapes) == 1


def test_periodic_table_has_the_kept_counts() -> None:
    figure = report.element_figure({"Fe": (100, 7), "O": (5000, 1200), "Xe": (30, 0)})
    texts = json.dumps(figure.to_plotly_json(), default=str)
    assert "1.2k" in texts and ">7" in texts and "7 kept of 100 scored (7%)" in texts
    assert "0 kept of 30 scored" in texts
    report.element_figure({"Fe": (1, 1)})


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run")
    with pytest.raises(MatPropError, match=r"no/where\.html cannot be written"):
        report.write_report(folder, tmp_path / "no" / "where.html", plotly_js="cdn")


@pytest.mark.parametrize("package", ["plotly.graph_objects", "pymatviz"])
def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ase-matprop\[plots\]'"):
        report.write_report(write_folder(tmp_path / "run"), plotly_js="cdn")

"""Plots: what is drawn is what was given, whatever draws it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from ase.data import chemical_symbols
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from ase_matprop.errors import CompositionError, MatPropError, MissingDependencyError, UnknownNameError
from ase_matprop.plots import calibration, error_by_element, error_cdf, learning_curve, parity, save
from ase_matprop.plots.elements import place

BACKENDS = ("matplotlib", "plotly")
RNG = np.random.default_rng(5)
TRUE = RNG.normal(-1.0, 1.0, 60)
PREDICTED = TRUE + RNG.normal(0.0, 0.1, 60)


def texts(figure: Any) -> str:
    """Return all that is written on a figure."""
    if isinstance(figure, Figure):
        found = [text.get_text() for text in figure.findobj(mpl.text.Text)]
    else:
        layout = figure.layout
        found = [layout.title.text, layout.xaxis.title.text, layout.yaxis.title.text]
        found += [note.text for note in layout.annotations] + [trace.name for trace in figure.data]
    return "\n".join(text for text in found if text)


def points(figure: Any) -> np.ndarray:
    """Return the points of a parity plot, sorted, shape (n, 2)."""
    if isinstance(figure, Figure):
        drawn = figure.axes[0].collections[0].get_offsets()
    else:
        (trace,) = (trace for trace in figure.data if trace.mode == "markers")
        drawn = np.stack([trace.x, trace.y], axis=1)
    return np.array(sorted(np.asarray(drawn).tolist()))


@pytest.mark.parametrize("backend", BACKENDS)
class TestParity:
    def test_numbers_and_unit(self, backend: str) -> None:
        figure = parity(
            TRUE, PREDICTED, unit="eV/atom", property_name="formation_energy_per_atom", title="A", backend=backend
        )
        assert points(figure) == pytest.approx(np.array(sorted(zip(TRUE, PREDICTED, strict=True))))
        written = texts(figure)
        mae = np.abs(TRUE - PREDICTED).mean()
        assert f"MAE {mae:.4g} eV/atom" in written and "60 rows" in written and "A" in written.split("\n")
        assert "reference formation energy (eV/atom)" in written and "predicted formation energy (eV/atom)" in written

    def test_rows_without_a_value_are_left_out(self, backend: str) -> None:
        true, predicted = TRUE.copy(), PREDICTED.copy()
        true[3], predicted[[3, 8]], predicted[9] = np.nan, np.nan, np.inf
        figure = parity(true, predicted, unit="", backend=backend)
        assert len(points(figure)) == 57 and "57 rows, 3 without a value" in texts(figure)
        assert "reference value" in texts(figure).replace("(", "").split("\n")

    def test_one_row_is_visible(self, backend: str) -> None:
        for predicted in (1.2, 0.8, 1.0):
            figure = parity([1.0], [predicted], unit="eV", backend=backend)
            assert points(figure).tolist() == [[1.0, predicted]] and "1 row" in texts(figure)
        if backend == "matplotlib":
            figure.draw_without_rendering()
            axes = figure.axes[0]
            (box,) = (text.get_window_extent() for text in axes.texts)
            assert not box.contains(*axes.transData.transform((1.0, predicted)))

    def test_several_models(self, backend: str) -> None:
        models = {"a": PREDICTED, "b": PREDICTED + 0.5}
        figure = parity(TRUE, models, unit="eV", names=[f"row {k}" for k in range(60)], backend=backend)
        written = texts(figure)
        for values in models.values():
            assert f"MAE {np.abs(values - TRUE).mean():.4g} eV" in written
        if backend == "matplotlib":
            assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
        else:
            _, first, second = figure.data
            assert np.asarray(second.y) == pytest.approx(np.asarray(first.y) + 0.5) and first.customdata[2] == "row 2"
            assert first.marker.color != second.marker.color and first.marker.symbol != second.marker.symbol

    def test_what_cannot_be_drawn(self, backend: str) -> None:
        with pytest.raises(MatPropError, match="none of the 0 rows has both"):
            parity([], [], unit="eV", backend=backend)
        with pytest.raises(MatPropError, match="none of the 2 rows"):
            parity([1.0, np.nan], [np.nan, 2.0], unit="eV", backend=backend)
        with pytest.raises(MatPropError, match="2 reference values and 1 predicted values"):
            parity([1.0, 2.0], [1.0], unit="eV", backend=backend)
        with pytest.raises(MatPropError, match="must be numbers"):
            parity(["a"], [1.0], unit="eV", backend=backend)
        with pytest.raises(MatPropError, match=r"shape \(1, 2\)"):
            parity([[1.0, 2.0]], [1.0], unit="eV", backend=backend)
        with pytest.raises(MatPropError, match="2 rows and 1 names"):
            parity([1.0, 2.0], [1.0, 2.0], unit="eV", names=["a"], backend=backend)
        with pytest.raises(MatPropError, match="no model"):
            parity([1.0], {}, unit="eV", backend=backend)

    def test_tails_of_many_rows(self, backend: str) -> None:
        true = RNG.normal(0.0, 1.0, 5000)
        predicted = true.copy()
        predicted[0] = 1e6
        figure = parity(true, predicted, unit="eV", backend=backend)
        count = int(re.search(r"(\d+) outside of the axes", texts(figure))[1])
        assert 1 <= count < 30 and f"MAE {np.abs(predicted - true).mean():.4g} eV" in texts(figure)
        if backend == "matplotlib":
            hexagons = figure.axes[0].collections[0].get_array()
            assert 5000 - count <= hexagons.sum() <= 5000
        else:
            assert len(points(figure)) == 5000


@pytest.mark.parametrize("backend", BACKENDS)
def test_error_cdf(backend: str) -> None:
    errors = {"a": [0.1, -0.2, np.nan, 0.4], "b": [0.3], "c": [np.nan]}
    figure = error_cdf(errors, unit="eV/atom", title="T", marks={"chemical accuracy": 0.0434}, backend=backend)
    written = texts(figure)
    assert "absolute error (eV/atom)" in written and "a (mean 0.233)" in written and "b (mean 0.3)" in written
    assert "c (" not in written and "chemical accuracy" in written and "T" in written
    if backend == "matplotlib":
        lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
        assert lines["a (mean 0.233)"].tolist()[1:] == [[0.1, 1 / 3], [0.2, 2 / 3], [0.4, 1.0]]
        assert figure.axes[0].get_xscale() == "log"
    else:
        first = figure.data[0]
        assert first.x.tolist() == [0.1, 0.2, 0.4] and first.y.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
        (note,) = (note for note in figure.layout.annotations if note.text == "chemical accuracy")
        assert 10**note.x == pytest.approx(0.0434)  # annotations of a logarithmic axis have logarithms
    for empty in ({}, {"a": []}, {"a": [np.nan]}):
        with pytest.raises(MatPropError, match="no model has an error"):
            error_cdf(empty, unit="eV", backend=backend)
    assert error_cdf({"exact": [0.0, 0.0]}, unit="eV", backend=backend) is not None


@pytest.mark.parametrize("backend", BACKENDS)
def test_error_by_element(backend: str) -> None:
    formulas = ["Fe2O3", {"Na", "Cl"}, "NaO", "not read, as its error is missing"]
    figure = error_by_element(formulas, [0.1, -0.3, 0.5, np.nan], unit="eV/atom", title="T", backend=backend)
    expected = {"Fe": 0.1, "O": 0.3, "Na": 0.4, "Cl": 0.3}
    if backend == "matplotlib":
        written = texts(figure)
        assert written.count("0.300") == 2 and "0.400" in written and "mean absolute error (eV/atom)" in written
        tiles = [text.get_text() for text in figure.axes[0].texts]
        assert tiles[tiles.index("O") : tiles.index("O") + 3] == ["O", "0.300", "2"]
    else:
        (heat,) = (trace for trace in figure.data if trace.showscale)
        assert sorted(heat.z[np.isfinite(heat.z.astype(float))]) == pytest.approx(sorted(expected.values()))
        hover = " ".join(text for row in heat.text for text in row)
        assert "mean absolute error 0.4 eV/atom<br>2 rows" in hover
        assert "eV/atom" in heat.colorbar.title.text
        assert figure.layout.width is None  # as wide as there is room
    assert error_by_element(["Fe"], [0.0], unit="eV", backend=backend) is not None
    with pytest.raises(MatPropError, match="no row has an error"):
        error_by_element([], [], unit="eV", backend=backend)
    with pytest.raises(MatPropError, match="1 formulas and 2 errors"):
        error_by_element(["Fe"], [0.1, 0.2], unit="eV", backend=backend)
    with pytest.raises(CompositionError, match="Xy"):
        error_by_element(["Xy2"], [0.1], unit="eV", backend=backend)
    with pytest.raises(UnknownNameError, match="Xy"):
        error_by_element([["Xy"]], [0.1], unit="eV", backend=backend)
    with pytest.raises(CompositionError, match="None"):
        error_by_element([None], [0.1], unit="eV", backend=backend)


def test_places_on_the_periodic_table() -> None:
    from pymatgen.core import Element

    for number in range(1, 119):
        element = Element.from_Z(number)
        column, row = place(number)
        if 57 <= number <= 71 or 89 <= number <= 103:
            assert row == element.row + 3 and column == number - (57 if row == 9 else 89) + 3
        else:
            assert (column, row) == (element.group, element.row), chemical_symbols[number]
    assert len({place(number) for number in range(1, 119)}) == 118


@pytest.mark.parametrize("backend", BACKENDS)
def test_learning_curve(backend: str) -> None:
    sizes = [100, 25, 50]
    errors = {"TL1": [[0.1, 0.3], [0.4, 0.4], [np.nan, 0.3]], "scratch": [0.5, 1.0, np.nan]}
    figure = learning_curve(sizes, errors, unit="eV/atom", level=0.6, title="T", backend=backend)
    assert "mean absolute error (eV/atom)" in texts(figure) and "training rows" in texts(figure)
    if backend == "matplotlib":
        axes = figure.axes[0]
        lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        assert axes.get_xscale() == axes.get_yscale() == "log"
        (band,) = axes.collections
        heights = band.get_paths()[0].vertices[:, 1]
    else:
        lines = {t.name: np.stack([t.x, t.y], axis=1).tolist() for t in figure.data if t.name in errors}
        assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
        (filled,) = (trace for trace in figure.data if trace.fill == "toself")
        heights = np.array(filled.y)
    assert np.array(lines["TL1"]) == pytest.approx(np.array([[25, 0.4], [50, 0.3], [100, 0.2]]))
    assert lines["scratch"] == [[25.0, 1.0], [100.0, 0.5]]
    assert heights.max() == pytest.approx(0.4) and heights.min() == pytest.approx(0.2 - np.std([0.1, 0.3], ddof=1))
    assert learning_curve([10], {"a": [0.1]}, unit="eV", backend=backend) is not None
    with pytest.raises(MatPropError, match="no line has an error"):
        learning_curve([10], {"a": [np.nan]}, unit="eV", backend=backend)
    with pytest.raises(MatPropError, match=r"shape \(1,\); give \(2,\)"):
        learning_curve([10, 20], {"a": [0.1]}, unit="eV", backend=backend)
    with pytest.raises(MatPropError, match="must be positive"):
        learning_curve([0, 20], {"a": [0.1, 0.1]}, unit="eV", backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_calibration(backend: str) -> None:
    spreads = RNG.lognormal(-3.0, 0.8, 100)
    errors = RNG.normal(0.0, spreads)
    figure = calibration(np.append(errors, np.nan), np.append(spreads, 1.0), unit="eV/atom", backend=backend)
    written = texts(figure)
    assert f"Spearman {spearmanr(np.abs(errors), spreads)[0]:.2f}" in written and "100 rows" in written
    assert "mean spread (eV/atom)" in written and "mean absolute error (eV/atom)" in written
    order = np.argsort(spreads).reshape(10, 10)
    expected = np.stack([spreads[order].mean(axis=1), np.abs(errors)[order].mean(axis=1)], axis=1)
    if backend == "matplotlib":
        (drawn,) = (line for line in figure.axes[0].lines if line.get_label() == "mean of a bin")
        assert drawn.get_xydata() == pytest.approx(expected)
        assert any(line.get_label() == "error as large as the spread" for line in figure.axes[0].lines)
    else:
        diagonal, trace = figure.data
        assert np.stack([trace.x, trace.y], axis=1) == pytest.approx(expected)
        assert np.asarray(diagonal.x).tolist() == np.asarray(diagonal.y).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_calibration_of_distances_and_few_rows(backend: str) -> None:
    figure = calibration(
        [0.1, 0.2], [1.0, 2.0], unit="eV", spread_name="distance", spread_unit="", title="T", backend=backend
    )
    assert "mean distance" in texts(figure).split("\n") and "as large as" not in texts(figure)
    assert "Spearman: none" in texts(figure)
    calibration([0.1], [0.2], unit="eV", backend=backend)
    calibration([0.0, 0.0, 0.0], [0.0, 0.1, 0.2], unit="eV", backend=backend)
    with pytest.raises(MatPropError, match="none of the 1 rows has an error and a spread"):
        calibration([0.1], [np.nan], unit="eV", backend=backend)
    with pytest.raises(MatPropError, match="2 errors and 1 spreads"):
        calibration([0.1, 0.2], [0.1], unit="eV", backend=backend)


def test_save(tmp_path: Path) -> None:
    drawn, interactive = (parity([1.0, 2.0], [1.1, 2.2], unit="eV", backend=backend) for backend in BACKENDS)
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".PNG": b"\x89PNG"}
    for suffix, start in starts.items():
        assert save(drawn, tmp_path / f"plot{suffix}").read_bytes().startswith(start)
    page = save(interactive, str(tmp_path / "plot.html")).read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page and 'name="viewport"' in page
    assert not re.search(r"<script[^>]+src=", page)  # needs no network
    with pytest.raises(MatPropError, match=r"plot.html must end in .png, .svg, .pdf.*backend='plotly'"):
        save(drawn, tmp_path / "plot.html")
    with pytest.raises(MatPropError, match=r"plot.png must end in .html.*backend='matplotlib'"):
        save(interactive, tmp_path / "plot.png")
    with pytest.raises(MatPropError, match="must end in"):
        save(drawn, tmp_path / "plot")
    with pytest.raises(MatPropError, match="only figures"):
        save("figure", tmp_path / "plot.png")
    with pytest.raises(MatPropError, match="make it first"):
        save(drawn, tmp_path / "none" / "plot.png")
    assert not list(tmp_path.glob("*.partial"))


def test_missing_packages_and_wrong_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'plotly'"):
        parity([1.0], [1.0], unit="eV", backend="ploty")
    monkeypatch.setitem(sys.modules, "pymatviz", None)
    with pytest.raises(MissingDependencyError, match=r"pymatviz.*ase-matprop\[plots\]"):
        error_by_element(["Fe"], [0.1], unit="eV", backend="plotly")
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    for draw in (
        lambda: parity([1.0], [1.0], unit="eV", backend="plotly"),
        lambda: error_cdf({"a": [0.1]}, unit="eV", backend="plotly"),
        lambda: learning_curve([1], {"a": [0.1]}, unit="eV", backend="plotly"),
        lambda: calibration([0.1], [0.1], unit="eV", backend="plotly"),
        lambda: error_by_element(["Fe"], [0.1], unit="eV", backend="plotly"),
    ):
        with pytest.raises(MissingDependencyError, match=r"plotly.*ase-matprop\[plots\]"):
            draw()


def test_nothing_global_is_changed() -> None:
    before, backend = dict(mpl.rcParams), mpl.rcParams._get_backend_or_none()
    parity([1.0], [1.0], unit="eV")
    calibration([0.1], [0.1], unit="eV")
    assert dict(mpl.rcParams) == before and mpl.rcParams._get_backend_or_none() == backend

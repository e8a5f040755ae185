"""Phase diagrams: what is on them, and files."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from ase_matprop.errors import MatPropError, ReferenceEnergyError
from ase_matprop.screening.hull.diagrams import HullPair, phase_diagram_figure, write_phase_diagram
from ase_matprop.screening.hull.references import read_references
from tests.screening.hull.examples import drawn_references, references_of

REFERENCES = references_of(
    {"Li": 0, "Fe": 0, "P": 0, "O2": 0, "Fe2O3": -1.7, "FeO": -1.45, "Li2O": -2.0, "LiFeO2": -1.9, "Li3PO4": -2.8}
)
FORMULAS = ["Fe2O3", "FeO", "Li2O", "Fe3O4", "LiFe5O8", "LiFeO2", "NaCl", "Li3PO4", "LiFePO4"]
ENERGIES = [-1.75, -1.2, -1.9, -1.78, -1.5, -1.95, -2.0, -2.8, np.nan]


def test_pair_of_hulls() -> None:
    pair = HullPair.build(REFERENCES, FORMULAS, ENERGIES, "Fe-O")
    assert pair.name == "Fe-O" and pair.elements == (26, 8)
    assert pair.stable() == ({"Fe2O3", "FeO"}, {"Fe2O3", "Fe3O4"})
    assert pair.summary() == "1 of 2 stable compounds predicted, 1 others"


@pytest.mark.parametrize(
    ("system", "kind"), [("Fe-O", "scatter"), ("Li-Fe-O", "scatterternary"), ("Li-Fe-P-O", "scatter3d")]
)
def test_figure(system: str, kind: str) -> None:
    figure = phase_diagram_figure(REFERENCES, FORMULAS, ENERGIES, system)
    assert {trace.type for trace in figure.data} == {kind}
    assert system in figure.layout.title.text
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [trace.name.partition(",")[0] for trace in lines] == ["references", "predicted"]
    labels = [trace for trace in figure.data if trace.name == "labels"]
    texts = [" ".join(trace.text) for trace in labels]
    assert all(trace.mode == "markers+text" and trace.marker.opacity == 0.0 for trace in labels)  # off the markers
    assert "Fe<sub>3</sub>O<sub>4</sub>" in texts[1] and "Fe<sub>3</sub>O<sub>4</sub>" not in texts[0]
    if system != "Fe-O":
        places = {getattr(trace, "subplot", None) or getattr(trace, "scene", None) for trace in figure.data}
        assert len(places) == 2
    else:
        (axis,) = {trace.yaxis for trace in figure.data}
        lowest = [min(value for value in trace.y if value is not None) for trace in lines]
        assert axis == "y" and lowest == pytest.approx([-1.7, -1.78])


@pytest.mark.parametrize("system", ["Fe-O", ["Li", "Fe", "O"], "Li-Fe-P-O"])
def test_files(tmp_path: Path, system: str | list[str]) -> None:
    page = write_phase_diagram(tmp_path / "hull.html", REFERENCES, FORMULAS, ENERGIES, system)
    text = page.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text and not re.search(r"<script[^>]+src=", text)
    image = matplotlib.image.imread(write_phase_diagram(tmp_path / "hull.png", REFERENCES, FORMULAS, ENERGIES, system))
    assert image.shape[0] > 700 and image[..., :3].std() > 0.01
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hull.html", "hull.png"]


def test_system_with_nothing_stable(tmp_path: Path) -> None:
    references = references_of({"Li": 0, "Fe": 0, "LiFe": 0.3})
    pair = HullPair.build(references, ["LiFe2"], [0.05], "Li-Fe")
    assert pair.stable() == (set(), set())
    for name in ("hull.png", "hull.html"):
        write_phase_diagram(tmp_path / name, references, ["LiFe2"], [0.05], "Li-Fe")


@pytest.mark.data
def test_li_fe_o(tmp_path: Path, data_dir: Path) -> None:
    references = read_references(data_dir / "hull" / "li_fe_o_mp.csv")
    pair = HullPair.build(references, references.formulas(), references.energies, "Li-Fe-O")
    known, found = pair.stable()
    assert known == found and {"Fe2O3", "Li2O", "LiFeO2"} <= known
    assert pair.summary() == f"{len(known)} of {len(known)} stable compounds predicted, 0 others"
    write_phase_diagram(tmp_path / "hull.png", references, references.formulas(), references.energies, "Li-Fe-O")


def test_no_label_covers_another_or_a_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ase_matprop.plots import phase_diagram_images as diagram_images

    boxes = []
    original = diagram_images._place_labels

    def spy(panel: diagram_images._Panel, size: float) -> None:
        original(panel, size)
        axes = panel.axes
        renderer = axes.figure.canvas.get_renderer()  # type: ignore[union-attr,attr-defined]
        found = [diagram_images._box(text, text.get_position(), renderer) for text in axes.texts]
        points = axes.transData.transform([point for point, *_ in panel.labels])
        boxes.append((found, points, axes.get_window_extent(renderer)))

    monkeypatch.setattr(diagram_images, "_place_labels", spy)
    references = drawn_references(25, 3, seed=2)
    write_phase_diagram(tmp_path / "hull.png", references, references.formulas(), references.energies + 0.0, "Li-O-P")
    write_phase_diagram(tmp_path / "two.png", REFERENCES, FORMULAS, ENERGIES, "Fe-O")
    assert len(boxes) == 3
    for found, points, inside in boxes:
        assert found
        for number, box in enumerate(found):
            assert not any(box.overlaps(other) for other in found[:number])
            assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in points)
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1


def test_rows_that_cannot_be_used_are_left_out() -> None:
    pair = HullPair.build(REFERENCES, [*FORMULAS, "nonsense", None], [*ENERGIES, -1.0, -1.0], "Fe-O")
    assert pair.stable() == HullPair.build(REFERENCES, FORMULAS, ENERGIES, "Fe-O").stable()
    with pytest.raises(MatPropError, match="no candidate with an energy belongs to the chemical system Fe-O; .*Fe2Xy"):
        HullPair.build(REFERENCES, ["Fe2Xy", "FeO"], [-1.0, np.nan], "Fe-O")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(MatPropError, match="two to 4 elements; got Fe$"):
        HullPair.build(REFERENCES, FORMULAS, ENERGIES, "Fe")
    with pytest.raises(ReferenceEnergyError, match="Na"):
        HullPair.build(REFERENCES, FORMULAS, ENERGIES, "Na-O")
    with pytest.raises(MatPropError, match="no candidate with an energy belongs to the chemical system Fe-P"):
        HullPair.build(REFERENCES, FORMULAS, ENERGIES, "Fe-P")
    with pytest.raises(MatPropError, match="one energy"):
        HullPair.build(REFERENCES, FORMULAS, [0.0], "Fe-O")
    with pytest.raises(MatPropError, match=r"must end in .png, .svg, .pdf or .html"):
        write_phase_diagram(tmp_path / "hull.txt", REFERENCES, FORMULAS, ENERGIES, "Fe-O")
    with pytest.raises(MatPropError, match="folder of the plot"):
        write_phase_diagram(tmp_path / "none" / "hull.png", REFERENCES, FORMULAS, ENERGIES, "Fe-O")

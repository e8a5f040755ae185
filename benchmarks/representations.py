"""What the hidden layers of ElemNet know: PCA of the elements, and metals told from non-metals by their activations.

    python benchmarks/representations.py --data-dir ../shared/data --output docs/figures

Thesis of D. Jha (2020), section 5.3.8 and Figure 5.9; Sci. Rep. 8, 17593 (2018), Figure 6.  The data have no magnetic
moments, so that the analysis is that of metals and non-metals.  A logistic regression is fitted on 90 % of the
formulas and measured on the others; raw element fractions and an untrained network are the references.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pymatgen.core import Element
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ase_matprop import load_model
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.training.datasets import load_feature_table
from ase_matprop.training.recipe import DataSection

MODELS = ("elemnet-oqmd", "elemnet-mp", "elemnet-experimental")
GROUPS = {
    "alkali": lambda e: e.is_alkali,
    "alkaline earth": lambda e: e.is_alkaline,
    "transition metal": lambda e: e.is_transition_metal and not e.is_rare_earth,
    "rare earth, actinide": lambda e: e.is_rare_earth or e.is_actinoid,
    "metalloid, p metal": lambda e: e.is_metalloid or e.is_post_transition_metal,
    "chalcogen": lambda e: e.is_chalcogen,
    "halogen": lambda e: e.is_halogen,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    parser.add_argument("--layer", type=int, default=0)
    parser.add_argument("--n-formulas", type=int, default=12_000)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    plot_elements(options.output / "elements_pca.png")
    metals(options.data_dir, options.layer, options.n_formulas, options.output / "metal_roc.png")


def group_of(symbol: str) -> str:
    element = Element(symbol)
    return next((name for name, belongs in GROUPS.items() if belongs(element)), "other non-metal")


def plot_elements(path: Path, layer: int = 0) -> None:
    """Draw the first two principal components of the activations of each pure element, coloured by its group."""
    figure = Figure(figsize=(15.0, 5.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(MODELS)), MODELS, strict=True):
        model = load_model(name)
        symbols = sorted(model.card.elements, key=atomic_numbers.__getitem__)
        points = PCA(2).fit_transform(model.represent(symbols, layer=layer)[0])
        groups = np.array([group_of(symbol) for symbol in symbols])
        for number, group in enumerate([*GROUPS, "other non-metal"]):
            chosen = groups == group
            axes.scatter(*points[chosen].T, color=f"C{number}", s=12, label=group)
        for symbol, point in zip(symbols, points, strict=True):
            axes.annotate(symbol, point, fontsize=7, xytext=(2, 2), textcoords="offset points")
        axes.set(title=f"{name}, hidden layer {layer}", xlabel="component 1", ylabel="component 2")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(GROUPS) + 1)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)


def metals(data_dir: Path, layer: int, n_formulas: int, path: Path) -> None:
    data = DataSection(
        file="mp/mp_formation_energy.extxyz.xz",
        property="metallicity",
        columns={"metallicity": "band_gap"},
        class_edges=[0.0],
        name="Materials Project",
        licence="CC BY 4.0",
        citation="",
    )
    table = load_feature_table(data_dir, data, "fractions", cache_dir=Path("runs/cache"))
    formulas = table.reduced_formulas()
    rows = np.unique(formulas, return_index=True)[1]  # one structure of each formula
    rows = rows[table.n_elements[rows] > 1]
    rows = np.random.default_rng(0).permutation(rows)[:n_formulas]
    metallic = table.targets[rows, 0] == 0.0
    print(f"{len(rows)} formulas, {metallic.mean():.1%} metals")
    train, test = train_test_split(np.arange(len(rows)), test_size=0.1, random_state=0, stratify=metallic)
    inputs = {"element fractions": table.features[rows]}
    for name in MODELS:
        inputs[name] = load_model(name).represent_features(table.features[rows], layer=layer)
    inputs["untrained network"] = untrained(table.features[rows], layer)

    figure = Figure(figsize=(5.4, 5.0), layout="constrained")
    axes = figure.add_subplot()
    print("| logistic regression on | area under the ROC curve |\n|---|---|")
    for name, features in inputs.items():
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
        score = classifier.fit(features[train], metallic[train]).predict_proba(features[test])[:, 1]
        area = roc_auc_score(metallic[test], score)
        label = name if name in ("element fractions", "untrained network") else f"{name}, hidden layer {layer}"
        print(f"| {label} | {area:.3f} |")
        axes.plot(*roc_curve(metallic[test], score)[:2], label=f"{label} ({area:.3f})")
    axes.plot([0, 1], [0, 1], color="black", lw=0.6)
    axes.set(xlabel="non-metals taken for metals", ylabel="metals found", title="Metal or non-metal from the formula")
    axes.legend(loc="lower right", fontsize=8)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)


def untrained(features: np.ndarray, layer: int) -> np.ndarray:
    import torch

    from ase_matprop.networks import build_network

    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        network = build_network("elemnet", len(get_descriptor("fractions").labels), 1, {}).eval()
        return network.represent(torch.from_numpy(features).float(), layer).double().numpy()


if __name__ == "__main__":
    main()

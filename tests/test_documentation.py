"""The documentation quotes what the cards say."""

from __future__ import annotations

import doctest
import gzip
import importlib.util
import re
from pathlib import Path

import pytest

from ase_matprop import load_model, networks
from ase_matprop.models import list_models
from ase_matprop.models.registry import read_card
from ase_matprop.networks import NETWORKS
from ase_matprop.training.run import train

ROOT = Path(__file__).parents[1]


def test_models_page_is_that_of_the_cards() -> None:
    spec = importlib.util.spec_from_file_location("build_models_page", ROOT / "docs" / "build_models_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "models.md").read_text() == module.page(), "run: python docs/build_models_page.py"


def test_readme_quotes_the_measured_errors() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in list_models():
        card = read_card(name)
        measured = card.classification["test"].accuracy if card.classification else card.errors["test"].mae
        assert f"`{name}`" in readme and f"{measured:.4f}" in readme


def test_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(blocks) == 5 and names["result"].n_failed == 0


PAGES = sorted(page.name for page in (ROOT / "docs").glob("*.md") if "```pycon" in page.read_text())


@pytest.mark.parametrize("name", PAGES)
def test_examples_of_the_pages_give_what_they_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```pycon\n(.*?)```", (ROOT / "docs" / name).read_text(), flags=re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, name, name, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert not runner.run(test, out=said.append).failed, "".join(said)
    assert len(test.examples) > 3


def test_links_of_the_pages_lead_somewhere() -> None:
    """Relative links of Markdown, which Sphinx checks for the site, work among the files of the repository too."""
    for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        if "_build" in page.parts:
            continue
        for link in re.findall(
            r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        ):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_adding_a_network_works_as_it_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's class, registered as the page says, is trained by the page's recipe, on a table of our own."""
    page = (ROOT / "docs" / "adding-a-network.md").read_text()
    monkeypatch.setattr("ase_matprop.networks.NETWORKS", dict(NETWORKS))
    monkeypatch.setattr("ase_matprop.training.recipe.NETWORKS", networks.NETWORKS)
    names: dict[str, object] = {"__name__": "highway"}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(block, "adding-a-network.md", "exec"), names)
    (recipe,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "a.toml").write_text(recipe.replace("max_epochs = 40", "max_epochs = 2\nbatch_size = 8"))
    data = tmp_path / "compositions"
    data.mkdir()
    for part, anions in (("train", "FO"), ("val", "S")):
        lines = [f"Mg{m}{x}{n},{-n / (m + n)}" for x in anions for m in range(1, 6) for n in range(1, 8)]
        text = "\n".join(["formula,formation_energy_per_atom", *lines])
        (data / f"mp_formation_energy_{part}.csv.gz").write_bytes(gzip.compress(text.encode()))
    result = train(tmp_path / "a.toml", data_dir=tmp_path, output=tmp_path / "run", progress_bar=False)
    assert result.card.network.settings == {"width": 128, "depth": 6}
    predictor = load_model(result.model_folder)
    assert predictor.represent(["MgO"], layer=2)[0].shape == (1, 128)
    assert predictor.predict(["MgO", "MgS"]).n_failed == 1  # the training rows have no sulphur

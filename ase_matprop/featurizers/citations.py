"""BibTeX entries of the papers behind descriptors and networks, as matminer's ``citations()`` gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DOI = re.compile(r"10\.\d{4,9}/[^\s,;\"{}]+")

#: DOI -> key, authors, title, journal, volume, pages, year
_PAPERS: dict[str, tuple[str, str, str, str, str, str, str]] = {
    "10.1103/PhysRevB.96.024104": (
        "ward2017voronoi",
        "Ward, Logan and Liu, Ruoqian and Krishna, Amar and Hegde, Vinay I. and Agrawal, Ankit and Choudhary, Alok and "
        "Wolverton, Chris",
        "Including crystal structure attributes in machine learning models of formation energies via {Voronoi} "
        "tessellations",
        "Phys. Rev. B",
        "96",
        "024104",
        "2017",
    ),
    "10.1038/npjcompumats.2016.28": (
        "ward2016magpie",
        "Ward, Logan and Agrawal, Ankit and Choudhary, Alok and Wolverton, Christopher",
        "A general-purpose machine learning framework for predicting properties of inorganic materials",
        "npj Comput. Mater.",
        "2",
        "16028",
        "2016",
    ),
    "10.1038/s41598-018-35934-y": (
        "jha2018elemnet",
        "Jha, Dipendra and Ward, Logan and Paul, Arindam and Liao, Wei-keng and Choudhary, Alok and Wolverton, Chris "
        "and Agrawal, Ankit",
        "{ElemNet}: Deep Learning the Chemistry of Materials From Only Elemental Composition",
        "Sci. Rep.",
        "8",
        "17593",
        "2018",
    ),
    "10.1038/s41467-019-13297-w": (
        "jha2019transfer",
        "Jha, Dipendra and Choudhary, Kamal and Tavazza, Francesca and Liao, Wei-keng and Choudhary, Alok and "
        "Campbell, Carelyn and Agrawal, Ankit",
        "Enhancing materials property prediction by leveraging computational and experimental data using deep transfer "
        "learning",
        "Nat. Commun.",
        "10",
        "5316",
        "2019",
    ),
    "10.1038/s41598-021-83193-1": (
        "jha2021irnet",
        "Jha, Dipendra and Gupta, Vishu and Ward, Logan and Yang, Zijiang and Wolverton, Christopher and Foster, Ian "
        "and Liao, Wei-keng and Choudhary, Alok and Agrawal, Ankit",
        "Enabling deeper learning on big data for materials informatics applications",
        "Sci. Rep.",
        "11",
        "4244",
        "2021",
    ),
    "10.1016/j.commatsci.2022.111254": (
        "krajewski2022sipfenn",
        "Krajewski, Adam M. and Siegel, Jonathan W. and Xu, Jinchao and Liu, Zi-Kui",
        "Extensible Structure-Informed Prediction of Formation Energy with improved accuracy and usability employing "
        "neural networks",
        "Comput. Mater. Sci.",
        "208",
        "111254",
        "2022",
    ),
    "10.1016/j.commatsci.2024.113495": (
        "krajewski2025pysipfenn",
        "Krajewski, Adam M. and Siegel, Jonathan W. and Liu, Zi-Kui",
        "Efficient structure-informed featurization and property prediction of ordered, dilute, and random atomic "
        "structures",
        "Comput. Mater. Sci.",
        "247",
        "113495",
        "2025",
    ),
    "10.1063/1.5019779": (
        "schutt2018schnet",
        r"Sch{\"u}tt, Kristof T. and Sauceda, Huziel E. and Kindermans, Pieter-Jan and Tkatchenko, Alexandre and "
        r"M{\"u}ller, Klaus-Robert",
        "{SchNet} -- A deep learning architecture for molecules and materials",
        "J. Chem. Phys.",
        "148",
        "241722",
        "2018",
    ),
    "10.1063/5.0138367": (
        "schutt2023schnetpack",
        r"Sch{\"u}tt, Kristof T. and Hessmann, Stefaan S. P. and Gebauer, Niklas W. A. and Lederer, Jonas and "
        "Gastegger, Michael",
        "{SchNetPack} 2.0: A neural network toolbox for atomistic machine learning",
        "J. Chem. Phys.",
        "158",
        "144801",
        "2023",
    ),
}

WARD_2017 = "10.1103/PhysRevB.96.024104"
WARD_2016 = "10.1038/npjcompumats.2016.28"
JHA_2018 = "10.1038/s41598-018-35934-y"


def bibtex(reference: str) -> str:
    """Return the BibTeX entry of a reference.

    Args:
        reference: text with a DOI, or any other text.

    Returns:
        An ``@article`` for the papers that this package knows by their DOI, a ``@misc`` with the text for others.
    """
    found = _DOI.search(reference)
    doi = None if found is None else found[0].rstrip(".)")
    if doi in _PAPERS:
        key, *values = _PAPERS[doi]
        names = ("author", "title", "journal", "volume", "pages", "year")
        return _entry("article", key, dict(zip((*names, "doi"), (*values, doi), strict=True)))
    key = re.sub(r"[^a-z0-9]+", "-", (doi or reference).lower()).strip("-")[:40].strip("-") or "reference"
    text = " ".join(re.sub(r"[{}\\]", "", reference).split())
    return _entry("misc", key, {"note": text} if doi is None else {"note": text, "doi": doi})


def bibtex_of_all(references: Iterable[str]) -> list[str]:
    """Return the BibTeX entries of references, each once, in their order."""
    return list(dict.fromkeys(bibtex(reference) for reference in references))


def _entry(kind: str, key: str, values: dict[str, str]) -> str:
    return f"@{kind}{{{key}, " + ", ".join(f"{name} = {{{value}}}" for name, value in values.items()) + "}"

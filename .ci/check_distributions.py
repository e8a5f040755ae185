"""Check the wheel and the source archive in a folder, and use the wheel from another place.

    python -m build --outdir DIST
    python .ci/check_distributions.py DIST

The wheel must have every file below ase_matprop/ that git knows and nothing else, the source archive every file of the
repository.  The wheel is unpacked by pip without its requirements, which are those of this interpreter, and predicts
an energy there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
#: bytes; what PyPI takes for one file of a project that did not ask for more
LARGEST = 100 * 10**6


class WrongDistributionError(Exception):
    """A file is not as it should be."""


def check(condition: object, message: str) -> None:
    """Raise an error with the message unless the condition holds."""
    if not condition:
        raise WrongDistributionError(message)


def compare(what: str, found: set[str], expected: set[str], *, may_have: tuple[str, ...] = ()) -> None:
    """Compare two sets of files; ``may_have`` are beginnings of the names of further files."""
    missing = sorted(expected - found)
    more = sorted(name for name in found - expected if not name.startswith(may_have))
    check(not missing, f"{what} lacks {', '.join(missing[:10])} ({len(missing)} files)")
    check(not more, f"{what} has {', '.join(more[:10])} ({len(more)} files), which git does not know")


def tracked(folder: str = ".") -> set[str]:
    """Return the files below a folder that git knows."""
    command = ["git", "ls-files", "-z", folder]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name}


def check_wheel(path: Path) -> None:
    """Check the files, the entry points and the metadata of a wheel."""
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = next(name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    compare(path.name, names, tracked("ase_matprop"), may_have=(f"{info}/",))
    for needed in ("py.typed", "models/zoo/irnet17-mp/weights.safetensors", "finetune/templates/report.html"):
        check(f"ase_matprop/{needed}" in names, f"{path.name} lacks {needed}")
    check(f"{info}/licenses/LICENSE" in names, f"{path.name} has no licence")
    check("matprop = ase_matprop.cli:app" in entry_points, f"{path.name} has no command matprop")
    check("[ase.plugins]" in entry_points, f"{path.name} is no plugin of ASE")
    check(metadata["License-Expression"] == "MIT", f"{path.name} does not name its licence")
    extras = metadata.get_all("Provides-Extra")
    check({"app", "screening", "export", "onnx"} <= set(extras), f"{path.name} lacks extras; it has {extras}")
    check(path.name.endswith("-py3-none-any.whl"), f"{path.name} is not for every platform")


def check_source(path: Path) -> None:
    """Check the files of a source archive."""
    with tarfile.open(path) as archive:
        names = {str(PurePosixPath(*PurePosixPath(each.name).parts[1:])) for each in archive if not each.isdir()}
    compare(path.name, names, tracked(), may_have=("PKG-INFO", "setup.cfg", "ase_matprop.egg-info/"))


def use_wheel(path: Path) -> str:
    """Predict with the package out of a wheel, from a folder that has nothing; return what is printed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        subprocess.run([*pip, "--target", str(folder / "site"), str(path)], check=True)
        (folder / "elsewhere").mkdir()
        code = (
            "import sys, ase_matprop\n"
            f"assert ase_matprop.__file__.startswith({str(folder / 'site')!r}), ase_matprop.__file__\n"
            "from ase_matprop.cli import app\n"
            "app()"
        )
        structure = ROOT / "examples" / "structures" / "NaCl.cif"
        return subprocess.run(
            [sys.executable, "-c", code, "predict", str(structure)],
            cwd=folder / "elsewhere",
            env={**os.environ, "PYTHONPATH": str(folder / "site")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout


def main(folder: Path) -> None:
    """Check everything; raise an error that says what is wrong."""
    wheels, sources = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    check(len(wheels) == len(sources) == 1, f"{folder} must have one wheel and one source archive")
    for path in (*wheels, *sources):
        size = path.stat().st_size
        print(f"{path.name}: {size / 1e6:.1f} MB")
        if size > LARGEST:
            print(f"  more than the {LARGEST / 1e6:.0f} MB that PyPI takes without asking")
    check_wheel(wheels[0])
    check_source(sources[0])
    printed = use_wheel(wheels[0])
    check("NaCl" in printed and "eV/atom" in printed, f"the wheel predicts nothing:\n{printed}")
    print("the wheel predicts:", printed.splitlines()[-1])


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (WrongDistributionError, subprocess.CalledProcessError) as error:
        print(error, getattr(error, "stderr", None) or "", file=sys.stderr)
        sys.exit(1)

"""Weights that others published, fetched from where they are: ``remote_models.toml`` says where that is."""

from __future__ import annotations

import functools
import hashlib
import http.client
import logging
import os
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

import ase_matprop
from ase_matprop.errors import ArtefactError, MatPropError, unknown_name
from ase_matprop.models.exchange.common import check_new, new_output
from ase_matprop.models.exchange.importer import import_weights

logger = logging.getLogger(__name__)

_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 1 << 20

#: called with the bytes that have come so far, and with all, where the server says how many there are
Progress = Callable[[int, int | None], None]


class RemoteModel(BaseModel):
    """Where a file of weights is, and what it is.

    Attributes:
        url: address of the file.
        sha256: hash of the file in hexadecimal digits; empty if it is not known.
        megabytes: about how large it is.
        network: the network, a key of :data:`PUBLISHED`.
        citation: what to cite.
        licence: licence of the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    sha256: str
    megabytes: int
    network: str
    citation: str
    licence: str


@functools.cache
def list_remote_models() -> dict[str, RemoteModel]:
    """Return what is known of weights that others published, by the name for :func:`download_model`."""
    text = files("ase_matprop.models.exchange").joinpath("remote_models.toml").read_text(encoding="utf-8")
    return {name: RemoteModel.model_validate(entry) for name, entry in tomllib.loads(text).items()}


def download_model(
    name: str,
    output: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download weights that others published, and turn them into a model folder.

    The file is kept beside the output only where it cannot be imported.

    Args:
        name: a key of :func:`list_remote_models`.
        output: model folder to write; by default a folder in the working directory with that name.
        sha256: hash that the file must have, in hexadecimal digits; that of the registry, where it has one, by default.
        progress: called while the file comes.

    Returns:
        The model folder.

    Raises:
        UnknownNameError: if there are no such weights.
        MatPropError: if the file cannot be downloaded, or is not the one that was published.
        ArtefactError: if the output exists, or the file cannot be imported.
    """
    known = list_remote_models()
    if name not in known:
        raise unknown_name("remote model", name, known)
    remote = known[name]
    output = Path(name if output is None else output)
    check_new(output)
    file = output.parent / PurePosixPath(urlsplit(remote.url).path).name
    expected = remote.sha256 if sha256 is None else sha256
    digest = download_file(remote.url, file, sha256=expected, progress=progress)
    checked = "as expected" if expected else "not verified, since the published one is not known to this package"
    if not expected:
        logger.warning("the SHA-256 of %s was %s: it is %s", file.name, checked, digest)
    notes = [
        f"downloaded from {remote.url}; its SHA-256 was {checked}",
        f"licence of the weights: {remote.licence}; cite: {remote.citation}",
    ]
    try:
        folder = import_weights(file, remote.network, output, notes=notes)
    except MatPropError as error:
        raise type(error)(f"{error} (the downloaded file is kept: {file})") from None
    file.unlink()
    return folder


def download_file(url: str, target: Path, *, sha256: str = "", progress: Progress | None = None) -> str:
    """Download a file; under its final name it is complete, or not there.

    Proxies are taken from the environment.

    Args:
        url: address of the file.
        target: path to write; it must not exist.
        sha256: hash that the file must have, in hexadecimal digits; empty to accept any.
        progress: called while the file comes.

    Returns:
        The SHA-256 of the file.

    Raises:
        MatPropError: if the file cannot be reached, comes incompletely or has another hash.
        ArtefactError: if the target exists.
    """
    if target.exists():
        raise ArtefactError(
            f"{target} exists already; move it away, or import it with: matprop models import {target} --as NETWORK"
        )
    request = urllib.request.Request(url, headers={"User-Agent": f"ase_matprop/{ase_matprop.__version__}"})
    digest = hashlib.sha256()
    with new_output(target) as path:
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, path.open("wb") as stream:
                length = answer.headers.get("Content-Length")
                total = int(length) if length else None
                done = 0
                while chunk := answer.read(_CHUNK):
                    stream.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, total)
        except urllib.error.HTTPError as error:
            raise MatPropError(f"{url} cannot be downloaded: the server answers {error.code} {error.reason}") from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or error
            raise MatPropError(
                f"{url} cannot be reached ({reason}); without a network, bring the file from another machine and use: "
                "matprop models import FILE --as NETWORK"
            ) from None
        if total is not None and done != total:
            raise MatPropError(f"{url} came incompletely: {done} of {total} bytes; nothing was kept, try again")
        if sha256 and digest.hexdigest() != sha256.lower():
            raise MatPropError(
                f"{url} is not the file that was published: its SHA-256 is {digest.hexdigest()}, not {sha256.lower()}; "
                "nothing was kept"
            )
    return digest.hexdigest()

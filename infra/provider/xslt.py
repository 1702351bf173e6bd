"""`xml.xslt`: the user's own transformation of a definition before libvirt gets it.

By lxml where it is installed, else by the program xsltproc; where neither is there it is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

XSLTPROC_TIMEOUT_S = 30


class TransformationFailed(RuntimeError):
    """The transformation is not well-formed, or it failed."""


def is_possible() -> bool:
    return importlib.util.find_spec("lxml") is not None or shutil.which("xsltproc") is not None


def transform(definition: str, stylesheet: str) -> str:
    if importlib.util.find_spec("lxml") is not None:
        return _by_lxml(definition, stylesheet)
    return _by_xsltproc(definition, stylesheet)


def _by_lxml(definition: str, stylesheet: str) -> str:
    etree: Any = importlib.import_module("lxml.etree")
    try:
        return str(etree.XSLT(etree.XML(stylesheet.encode()))(etree.XML(definition.encode())))
    except (etree.XMLSyntaxError, etree.XSLTError) as error:
        raise TransformationFailed(f"xml.xslt: {error}") from error


def _by_xsltproc(definition: str, stylesheet: str) -> str:
    with tempfile.TemporaryDirectory(prefix="sampan-xslt-") as folder:
        Path(folder, "sheet.xsl").write_text(stylesheet)
        Path(folder, "definition.xml").write_text(definition)
        command = ["xsltproc", "--nonet", "sheet.xsl", "definition.xml"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=XSLTPROC_TIMEOUT_S
        )
    if done.returncode != 0:
        raise TransformationFailed(f"xml.xslt: {done.stderr.strip()}")
    return done.stdout

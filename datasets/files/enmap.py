"""What METADATA.XML says of the GeoTIFF of an EnMAP product that lies beside it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from datasets.files.arrays import Declared


def metadata_beside(path: Path) -> Path | None:
    """The ``...METADATA.XML`` of a product's GeoTIFF: of the same name, or the only one in the folder."""
    if not path.parent.is_dir():
        return None
    there = sorted(each for each in path.parent.iterdir() if each.name.upper().endswith("METADATA.XML") and each.is_file())
    product = re.sub(r"[-_]?SPECTRAL_IMAGE.*$", "", path.stem, flags=re.IGNORECASE).upper()
    own = [each for each in there if each.name.upper().startswith(f"{product}-") or each.name.upper().startswith(f"{product}_")]
    return own[0] if own else there[0] if len(there) == 1 and there[0].stem.upper() == "METADATA" else None


def declared_beside(path: Path, bands: int) -> Declared | None:
    """Wavelengths, gains, offsets and no-data of all bands; None without such a file, or one of another number of bands."""
    beside = metadata_beside(path)
    if beside is None:
        return None
    root = ElementTree.parse(beside).getroot()
    characters = [each for each in root.iter() if _name(each) == "bandid"]
    if len(characters) != bands:
        return None

    def numbers(word: str) -> np.ndarray | None:
        words = [next((child.text or "" for child in each.iter() if _name(child) == word), "") for each in characters]
        return np.array(words, dtype=np.float64) if all(words) else None

    background = [each.text or "" for each in root.iter() if _name(each) in ("backgroundvalue", "nodatavalue") and each.text]
    nodata = float(background[0]) if background else None
    gains, offsets = numbers("gainofband"), numbers("offsetofband")
    if gains is None and offsets is not None:
        gains = np.ones(bands)
    return Declared(numbers("wavelengthcenterofband"), gains=gains, nodata=(nodata,) * bands,
                    offsets=np.zeros(bands) if offsets is None and gains is not None else offsets)


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].lower()

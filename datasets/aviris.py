"""Eight real AVIRIS scenes of 100 x 100 pixels from three acquisitions, split by flight.

The scenes are not part of this repository: put the files into one folder and name it in HSFUSION_DATA. The
checksums below say which files are meant.

Training and validation see flight A alone. The two held-out sets answer two questions and are never pooled, so there
is no split called ``test``: ``test-same-flight`` is another scene of flight A without a pixel in common with those
trained on; ``test-other-flight`` holds the flights B (other band noise, other land) and C (reflectance, not radiance).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from datasets.aviris_bands import centers_nm
from datasets.io import data_root, read_cube
from datasets.scene import Dataset, Miniature, Scene, SceneError, register, split_entry
from datasets.splitting import content_digest, file_digest, read_list
from datasets.synthetic import Synthetic

_SCENES = {  # name: (flight, sha256 of <name>.npz)
    "abu_airport_1": ("A", "d8ff5a69ccad4b227efbeb0a1f6044b04bc66200972d071a1e69bb952412cbe8"),
    "abu_airport_2": ("A", "408670a0e7fdad8eb452a8e4ebb03d7f3eff7e50636f016056f469fd1e9b1e32"),
    "abu_airport_3": ("A", "fba62ead9d18e46e5d9ffd5c96075d04741bec9468b8925c9e6a0c4f2d7e075c"),
    "abu_urban_4": ("A", "d9655e83bebdcb5cdf69486672e4d9939b6fbdf3d7e6f1893f6b1e823a70af40"),
    "abu_urban_5": ("A", "e0e99e089dfe869c32ceecbe021b8862d98597af3b23a23d3f6a6bd36297ae5f"),
    "abu_urban_1": ("B", "1749954b63c13a6608704a17caa11fbeedeaf08f10b450450e89154bf1dc301b"),
    "abu_urban_2": ("B", "1a360f4b707da7d055ebe5393b96662d2d9634f38e1f692b8b595c6781770916"),
    "jasper_ridge": ("C", "da78d5f39eecfaddaf787c4719732a4b59a8f65aa63ed8bbc583829c3042668e"),
}
TRAIN = ("flight", "and-procedural")
FOLDS = (1, 2, 3, 4)
PROCEDURAL = 24
WINDOW, WINDOWS = 80, (0, 10, 20)  # side of a window of a training scene, and its first rows and columns
_UNITS = {"A": "scaled at-sensor radiance", "B": "scaled at-sensor radiance", "C": "reflectance x 10000"}


def windows(entry: str) -> list[str]:
    """Nine windows of a whole scene; of one that is a window already, those of three columns."""
    base, own = split_entry(entry)
    if own is None:
        return [f"{base}[{row}:{row + WINDOW},{col}:{col + WINDOW}]" for row in WINDOWS for col in WINDOWS]
    rows, side = own[0], own[0].stop - own[0].start
    return [f"{base}[{rows.start}:{rows.stop},{col}:{col + side}]" for col in WINDOWS if col + side <= own[1].stop]


@register("aviris")
class Aviris(Dataset):
    """The real scenes; 198 to 207 of the 224 bands each, with their band numbers.

    Args:
        root: folder of the files; HSFUSION_DATA if not given.
        train: ``flight``: four scenes of flight A. ``and-procedural``: windows of each of them, so that real ones are half of
            what is drawn, and :data:`PROCEDURAL` scenes of the dataset ``synthetic``; one of those to validate on
            as well. What is tested on stays the same.
        fold: which scene of flight A is held out, 1 to 4: ``abu_airport_1``, ``abu_airport_3``, the two that share pixels
            (``abu_airport_2`` and ``abu_urban_5``), ``abu_urban_4``. The others are trained and validated on.
    """

    planned_without_data = True
    scenes: Mapping[str, tuple[str, str]] = _SCENES

    def __init__(self, root: str | None = None, train: str = "flight", fold: int = 1) -> None:
        for option, value, choices in (("train", train, TRAIN), ("fold", fold, FOLDS)):
            if value not in choices:
                raise SceneError(f"dataset 'aviris': option {option}={value}; choices: {', '.join(map(str, choices))}")
        self.root, self.train, self.fold = root, train, fold

    def splits(self) -> dict[str, list[str]]:
        """As the files ``splits/aviris_<split>.txt`` say, of other folds than the first ``splits/aviris-fold-<fold>_...``."""
        lists = Path(__file__).with_name("splits")
        own = "aviris" if self.fold == 1 else f"aviris-fold-{self.fold}"
        found: dict[str, list[str]] = {"test": []}
        for split in ("train", "val", "test-same-flight", "test-other-flight"):
            name = "aviris" if split == "test-other-flight" else own
            found[split] = read_list(lists / f"{name}_{split}.txt")
        if self.procedural:
            found["train"] = [window for entry in found["train"] for window in windows(entry)]
            for split, entries in self.procedural.splits().items():
                found[split] += [f"procedural/{entry}" for entry in entries]
        return found

    @cached_property
    def procedural(self) -> Synthetic | None:
        """The procedural scenes that are trained on as well."""
        return Synthetic(size=96, train=PROCEDURAL, val=1, test=0) if self.train == "and-procedural" else None

    def digest(self) -> str:
        """From the declared checksums and the splits; needs no data."""
        return content_digest([self.scenes, self.splits(), *([self.procedural.digest()] if self.procedural else [])])

    def read(self, base: str) -> Scene:
        """One scene, negative values kept.

        Raises:
            SceneError: unknown name, missing file, or a file that is not the one whose checksum is declared.
        """
        if self.procedural and base.startswith("procedural/"):
            return replace(self.procedural.read(base.removeprefix("procedural/")), name=base)
        if base not in self.scenes:
            raise SceneError(f"dataset 'aviris' has no scene '{base}'; choices: {', '.join(self.scenes)}")
        flight, sha256 = self.scenes[base]
        path = data_root(self.root) / f"{base}.npz"
        if not path.is_file():
            wanted = ", ".join(f"{name}.npz" for name in self.scenes)
            raise SceneError(
                f"{path}: no such file. export HSFUSION_DATA=FOLDER with the folder that holds {wanted} "
                "(or use the dataset 'synthetic', which needs no files)"
            )
        found = file_digest(path)
        if found != sha256:
            raise SceneError(
                f"{path}: sha256 {found} where {sha256} is declared. Damaged or another file: copy it again; "
                "cubes of your own belong to the dataset 'folder'."
            )
        cube, words = read_cube(path)
        return Scene.from_native(
            base, cube, words["wavelengths"], band_numbers=words["band_numbers"], units=_UNITS[flight], flight=flight
        )

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """All files with 6 bands, and the checksums of these."""
        rng, centers = np.random.default_rng(0), centers_nm()
        numbers = np.array([11, 12, 32, 33, 96, 97])  # on both sides of where the first three spectrometers overlap
        native = {}
        for name in cls.scenes:
            cube = rng.integers(-20, 6000, (100, 100, len(numbers))).astype(np.int16)
            np.savez(folder / f"{name}.npz", cube=cube, wavelength_nm=centers[numbers - 1], band_number=numbers)
            native[name] = cube.transpose(2, 0, 1)
        scenes = {name: (flight, file_digest(folder / f"{name}.npz")) for name, (flight, _) in cls.scenes.items()}

        def build() -> Dataset:
            dataset = cls(str(folder))
            dataset.scenes = scenes
            return dataset

        return Miniature((build,), native)

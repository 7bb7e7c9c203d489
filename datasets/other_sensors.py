"""Five real scenes of three other sensors: CAVE (31 bands, laboratory), a part of Pavia Centre (102) and Samson (156).

The scenes are not part of this repository: put the files into one folder and name it in HSFUSION_DATA. The checksums below
say which files are meant. Nothing is trained on: the splits ``train``, ``val`` and ``test`` are empty, and each sensor is a
held-out split of its own, since scores of laboratory, urban and coastal scenes are never pooled.

Of each CAVE scene of 512 x 512 pixels there are two windows of 96 x 96: of the 25 windows that lie edge to edge around its
middle, the two with the most detail (mean absolute difference between neighbouring pixels, of all bands). So neither is
a piece of the black background, and no result had a say. The others are taken whole.

Band centres: CAVE's files hold them (400 to 700 nm by 10). Those of ROSIS and Samson are not tabled where the scenes come
from: they are nominal, evenly spaced over 430 to 860 nm and 401 to 889 nm.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.io import data_root, read_native
from datasets.scene import Dataset, Miniature, Scene, SceneError, register
from datasets.splitting import content_digest, file_digest

WINDOW = 96
_ENDS_NM = {"cave": (400.0, 700.0), "pavia": (430.0, 860.0), "samson": (401.0, 889.0)}
_UNITS = {"cave": "reflectance, 16 bit", "pavia": "digital numbers", "samson": "reflectance, scaled to 0..1"}


class File(NamedTuple):
    """One scene: whose it is, the sha256 of its file, and the upper left corners of its windows; none: taken whole."""

    sensor: str
    sha256: str
    corners: tuple[tuple[int, int], ...] = ()


_SCENES = {
    "cave_balloons": File("cave", "6a921d164dd28b9a7bc7d68416715d837cc2bbe76ecd2fa7e2c1e7e90bd2ccb4",
                          ((16, 112), (16, 208))),
    "cave_chart_and_stuffed_toy": File("cave", "f05ac61b715562c56b4319382f510c0838846abc966dc873269fc9d1f31a49e1",
                                       ((16, 304), (112, 208))),
    "cave_fake_and_real_food": File("cave", "dc1f1c7c08a5d0cd46088c6826a6d35a910d79e313dbbe0fb089715619685495",
                                    ((400, 304), (304, 16))),
    "pavia_centre_crop": File("pavia", "a9897ce796a54e48bbf0b15ea2d618c26371bf6b40618b6f73cfc25fba40de6f"),
    "samson": File("samson", "5f2cae307b522fadddafd3db0ced55d4b2ce198e3b9c7d1752f63977a254340a"),
}


@register("other-sensors")
class OtherSensors(Dataset):
    """CAVE, Pavia Centre and Samson as three held-out splits; nothing to train on.

    Args:
        root: folder of the files; HSFUSION_DATA if not given.
    """

    planned_without_data = True
    scenes: Mapping[str, File] = _SCENES

    def __init__(self, root: str | None = None) -> None:
        self.root = root

    def splits(self) -> dict[str, list[str]]:
        """One held-out split a sensor; six windows of CAVE, one scene of each other."""
        splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for base, file in self.scenes.items():
            splits.setdefault(f"test-{file.sensor}", []).extend(
                [f"{base}[{row}:{row + WINDOW},{col}:{col + WINDOW}]" for row, col in file.corners] or [base])
        return splits

    def digest(self) -> str:
        """From the declared checksums, the nominal wavelengths and the splits; needs no data."""
        return content_digest([self.scenes, _ENDS_NM, self.splits()])

    def read(self, base: str) -> Scene:
        """One whole scene, native values and all bands kept.

        Raises:
            SceneError: unknown name, missing file, or a file that is not the one whose checksum is declared.
        """
        if base not in self.scenes:
            raise SceneError(f"dataset 'other-sensors' has no scene '{base}'; choices: {', '.join(self.scenes)}")
        file = self.scenes[base]
        path = data_root(self.root) / f"{base}.npz"
        if not path.is_file():
            wanted = ", ".join(f"{name}.npz" for name in self.scenes)
            raise SceneError(f"{path}: no such file. export HSFUSION_DATA=FOLDER with the folder that holds {wanted} "
                             "(or use the dataset 'synthetic', which needs no files)")
        found = file_digest(path)
        if found != file.sha256:
            raise SceneError(f"{path}: sha256 {found} where {file.sha256} is declared. Damaged or another file: copy it again; "
                             "cubes of your own belong to the dataset 'folder'.")
        cube, words = read_native(path)
        wavelengths = words.get("wavelengths", np.linspace(*_ENDS_NM[file.sensor], len(cube)))
        return Scene.from_native(base, cube, wavelengths, units=_UNITS[file.sensor], flight=base)

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """All files with three bands, CAVE's in their full size, Pavia's without wavelengths; and their checksums."""
        rng, native = np.random.default_rng(0), {}
        for name, file in cls.scenes.items():
            cube = rng.integers(0, 6000, (*((512, 512) if file.corners else (28, 40)), 3)).astype(np.uint16)
            words: dict[str, Any] = {} if file.sensor == "pavia" else {"wavelength_nm": np.linspace(*_ENDS_NM[file.sensor], 3)}
            np.savez(folder / f"{name}.npz", cube=cube, **words)
            native[name] = cube.transpose(2, 0, 1)
        scenes = {name: file._replace(sha256=file_digest(folder / f"{name}.npz")) for name, file in cls.scenes.items()}

        def build() -> Dataset:
            dataset = cls(str(folder))
            dataset.scenes = scenes
            return dataset

        return Miniature((build,), native)

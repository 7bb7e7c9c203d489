"""CAVE: 32 scenes of objects in a studio, 512 x 512 pixels, 31 bands from 400 to 700 nm, one 16-bit PNG a band.

Yasuma et al., Generalized Assorted Pixel Camera, 2008. Every band is read with all its 16 bits; readers that make bytes of them
lose half of the digits.
"""

from functools import partial
from pathlib import Path

import numpy as np

from datasets.public import Published, Remote, Source, native
from datasets.scene import Miniature, Scene, SceneError, register
from datasets.splitting import content_digest

SCENES = (
    "balloons", "beads", "cd", "chart_and_stuffed_toy", "clay", "cloth", "egyptian_statue", "face", "fake_and_real_beers",
    "fake_and_real_food", "fake_and_real_lemon_slices", "fake_and_real_lemons", "fake_and_real_peppers",
    "fake_and_real_strawberries", "fake_and_real_sushi", "fake_and_real_tomatoes", "feathers", "flowers", "glass_tiles",
    "hairs", "jelly_beans", "oil_painting", "paints", "photo_and_face", "pompoms", "real_and_fake_apples",
    "real_and_fake_peppers", "sponges", "stuffed_toys", "superballs", "thread_spools", "watercolors",
)
SEEN = ("photo_and_face", "real_and_fake_peppers")  # by their names, of what `face` and `fake_and_real_peppers` show
_BANDS = 31
_LISTS = ("customary", "apart")


@register("cave")
class Cave(Published):
    """The scenes, by name; in the order of the alphabet 18 to train on, 2 to validate and 12 to test.

    Args:
        root: the folder that holds the data set's; HSFUSION_DATA if not given.
        lists: ``customary``: the 12 last scenes are tested. ``apart``: without the two whose objects the first 20 show.
    """

    source = Source(
        (Remote("complete_ms_data.zip", "https://www.cs.columbia.edu/CAVE/databases/multispectral/zip/complete_ms_data.zip"),),
        "https://www.cs.columbia.edu/CAVE/databases/multispectral", "no licence is granted; cite Yasuma 2008", 405_988_465,
    )

    def __init__(self, root: str | None = None, lists: str = "apart") -> None:
        super().__init__(root)
        if lists not in _LISTS:
            raise SceneError(f"dataset 'cave': lists '{lists}'; choices: {', '.join(_LISTS)}")
        self.lists = lists

    def splits(self) -> dict[str, list[str]]:
        """By scene; no pixel is shared in either way."""
        seen = SEEN if self.lists == "apart" else ()
        return {"train": [*SCENES[:18]], "val": [*SCENES[18:20]], "test": [name for name in SCENES[20:] if name not in seen]}

    def digest(self) -> str:
        """From names and sizes of all PNG files, and the splits."""
        splits = self.splits()
        paths = [path for entries in splits.values() for scene in entries for path in self.pngs(scene)]
        return content_digest([[[path.name, path.stat().st_size] for path in paths], splits])

    def pngs(self, scene: str) -> list[Path]:
        """The files of a scene's bands, in the order of wavelength."""
        first = self.file(f"{scene}_ms_01.png")
        paths = [first.with_name(f"{scene}_ms_{band:02d}.png") for band in range(1, _BANDS + 1)]
        for path in paths:
            if not path.is_file():
                raise self.missing(path.name)
        return paths

    def read(self, base: str) -> Scene:
        """One scene, counts of 16 bits.

        Raises:
            SceneError: unknown name, missing or unreadable files.
        """
        if base not in SCENES:
            raise SceneError(f"dataset 'cave' has no scene '{base}'; choices: {', '.join(SCENES)}")
        pngs = self.pngs(base)
        try:
            cube, words = native(pngs[0].parent, np.arange(400.0, 701.0, 10.0))
        except SceneError as error:  # it names the folder
            raise SceneError(f"{pngs[0].name} to {pngs[-1].name}: {error}") from error
        return Scene.from_native(base, cube, units="counts of 16 bits", flight=base, **words)

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """All scenes with 8 x 8 pixels."""
        from PIL import Image

        rng, native = np.random.default_rng(0), {}
        for name in SCENES:
            native[name] = rng.integers(0, 65536, (_BANDS, 8, 8)).astype(np.uint16)
            inner = folder / "cave" / "complete_ms_data" / f"{name}_ms" / f"{name}_ms"
            inner.mkdir(parents=True)
            for number, band in enumerate(native[name], 1):
                Image.fromarray(band).save(inner / f"{name}_ms_{number:02d}.png")
        return Miniature((partial(cls, str(folder)), partial(cls, str(folder), "customary")), native)

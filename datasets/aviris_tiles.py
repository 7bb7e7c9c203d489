"""Tiles of the AVIRIS scenes with a choice of what is trained on: what a split that mixes the tiles of a flight is worth.

The held-out tiles are the same for both choices, so that a difference between two trainings is that of their scenes:
48 x 48 pixels at every 26 pixels, so that neighbours share 22 rows or columns, as tiles that are cut with overlap do.
"""

from datasets.aviris import Aviris
from datasets.scene import SceneError, register
from datasets.splitting import content_digest

TILE, STEP, PLACES = 48, 26, 3  # of 3 x 3 tiles in 100 x 100 pixels
HELD_OUT = ("abu_urban_1", "abu_urban_2", "jasper_ridge")  # the flights B and C
OTHERS = ("abu_airport_1", "abu_airport_2", "abu_airport_3", "abu_urban_5")  # flight A
TRAIN = ("flight", "overlapping")


@register("aviris-tiles")
class AvirisTiles(Aviris):
    """Tiles of seven scenes; tested on those at the four sides of the three scenes of flights B and C.

    Args:
        root: folder of the files; HSFUSION_DATA if not given.
        train: ``flight``: 36 tiles of flight A, none of whose pixels is tested on. ``overlapping``: as many, of which 15 are
            the corners and centres of the tested scenes: neighbours of every tested tile, as a random split of tiles gives.
    """

    def __init__(self, root: str | None = None, train: str = "flight") -> None:
        super().__init__(root)
        if train not in TRAIN:
            raise SceneError(f"dataset 'aviris-tiles': option train={train}; choices: {', '.join(TRAIN)}")
        self.train = train

    def splits(self) -> dict[str, list[str]]:
        """12 tested tiles, 36 to train on, and the validation block of ``aviris`` in two halves."""
        odd = [(row, col) for row in range(PLACES) for col in range(PLACES) if (row + col) % 2]
        even = [(row, col) for row in range(PLACES) for col in range(PLACES) if not (row + col) % 2]
        flight = [tile(scene, *place) for scene in OTHERS for place in [*odd, *even]]
        near = [tile(scene, *place) for scene in HELD_OUT for place in even]
        return {
            "train": flight if self.train == "flight" else [*near, *flight[len(near):]],
            "val": ["abu_urban_4[72:100,0:40]", "abu_urban_4[72:100,44:84]"],
            "test": [tile(scene, *place) for scene in HELD_OUT for place in odd],
        }

    def digest(self) -> str:
        """From the declared checksums and the splits; needs no data."""
        return content_digest([self.scenes, self.splits()])


def tile(scene: str, row: int, col: int) -> str:
    """The entry of a tile by its place in the grid."""
    top, left = row * STEP, col * STEP
    return f"{scene}[{top}:{top + TILE},{left}:{left + TILE}]"

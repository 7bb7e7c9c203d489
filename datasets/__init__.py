"""Scenes by dataset name. The imports below are the one list of datasets: a new one adds its line here."""

from datasets import (
    aviris,
    aviris_lines,
    aviris_tiles,
    cave,
    chikusei,
    csakd_tiles,
    ehu,
    folder,
    harvard,
    houston,
    hyspecnet,
    mdas,
    other_sensors,
    synthetic,
    synthetic_aviris,
    washington_dc,
)
from datasets.scene import Scene, SceneError, get, names

__all__ = ["Scene", "SceneError", "aviris", "aviris_lines", "aviris_tiles", "cave", "chikusei", "csakd_tiles", "ehu", "folder",
           "get", "harvard", "houston", "hyspecnet", "mdas", "names", "other_sensors", "synthetic", "synthetic_aviris",
           "washington_dc"]

"""Files of cubes, one module a format: what a file declares about its own values is obeyed, or refused by name.

``cubes`` is what callers ask for, by way of :mod:`datasets.io`; ``arrays`` says what a format answers with, ``wavelengths``
reads units and the files beside a cube.
"""

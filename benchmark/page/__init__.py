"""A study as a page: typed facts, sections, tables, figures and their text forms; rows in, artefacts out."""

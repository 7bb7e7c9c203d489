"""Files of rows: what is no table of them is told by line and column, and no cell is read as another."""

import math

import pytest

from benchmark import rows


@pytest.mark.parametrize(("content", "words"), [
    (b"", "empty"),
    (b"\x89PNG\x00\xff\n", "no table of rows"),
    (b'method,seconds\n"gsa,1\n', "no table of rows"),
    (b"method,seconds\n", "a header without a row"),
    (b"method,seconds\ngsa,1.5", "its last line is cut off"),
    (b"method,seconds\ngsa,1.5,2\n", "line 2 has 3 cells, its header 2"),
    (b"method,seconds\ngsa,1.5\ngsa,1x5\n", "line 3: seconds '1x5' is no number"),
    (b"method,psnr_db\ngsa,1.5\n", "no column seconds"),
    (b"method,seconds\ngsa,\n", "line 2: seconds '' is no number"),
])
def test_what_is_no_table_of_rows(tmp_path, content, words):
    (tmp_path / "rows.csv").write_bytes(content)
    assert words in rows.damage(tmp_path / "rows.csv", ["seconds"])


def test_what_is_read_without_damage(tmp_path):
    path = tmp_path / "speed.csv"
    path.write_text("what,seconds,loss_db\n0012,1.5,\n", encoding="utf-8")
    assert rows.damage(path) == "" and "no table of rows" in rows.damage(tmp_path)  # a folder
    (found,) = rows.read(path).to_dict("records")
    assert found["what"] == "0012" and found["seconds"] == 1.5 and math.isnan(found["loss_db"])  # not measured
    with pytest.raises(rows.RowsError, match=r"speed\.csv: line 2: loss_db '' is no number"):
        rows.read(path, ["loss_db"])

"""The contact sheet of experiments/toy_kinds.py."""

from PIL import Image

from experiments import toy_kinds


def test_contact_sheet_has_six_rows_of_ten_kinds(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_kinds, "OUT", tmp_path / "kinds.png")
    toy_kinds.main()
    with Image.open(tmp_path / "kinds.png") as sheet:
        assert sheet.size == (10 * 96, 6 * (96 + 16))

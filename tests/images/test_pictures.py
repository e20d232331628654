import numpy as np
import pytest
import torch
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.images import grid, read_picture, save_grid, to_uint8


def test_the_screen_sees_black_to_white_for_any_number_of_levels():
    for k in (2, 17, 256, 512, 1024):
        shown = to_uint8(torch.arange(k, dtype=torch.int32).view(1, 1, 1, k), k).flatten()
        assert shown.dtype == torch.uint8
        assert (shown[0], shown[-1]) == (0, 255)
        assert (shown.int().diff() >= 0).all()


def test_every_image_lies_at_its_place_on_the_grid():
    images = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sheet = np.asarray(grid(images, 256, columns=2, gap=3, zoom=2))
    assert sheet.shape == (2 * (3 * 4 + 2 * 3), 2 * (2 * 6 + 3), 3)
    for n in range(5):
        top, left = 2 * (n // 2) * 7, 2 * (n % 2) * 9
        tile = sheet[top : top + 8, left : left + 12]
        expected = images[n].permute(1, 2, 0).numpy()
        for di in (0, 1):
            for dj in (0, 1):
                assert np.array_equal(tile[di::2, dj::2], expected)
    assert (sheet[8:14] == sheet[8, 0]).all()  # the gap, in one colour


def test_a_saved_grid_is_read_back(tmp_path):
    images = torch.tensor([[[[0, 1], [1, 0]]]])
    save_grid(tmp_path / "a.png", images, 2, zoom=1)
    assert torch.equal(read_picture(tmp_path / "a.png"), images.to(torch.uint8) * 255)
    assert Image.open(tmp_path / "a.png").mode == "L"
    for name in ("a.nothing", "no/such/folder/a.png"):
        with pytest.raises(UserError, match="cannot be written"):
            save_grid(tmp_path / name, images, 2)


def test_small_grids_are_magnified_by_themselves():
    assert 256 < max(grid(torch.zeros(9, 1, 8, 8, dtype=torch.uint8), 17).size) <= 512
    assert grid(torch.zeros(1, 1, 600, 700, dtype=torch.uint8), 256).size == (700, 600)


def test_channels_that_no_picture_has_stand_below_each_other():
    images = torch.arange(8, dtype=torch.uint8).view(1, 2, 2, 2)
    assert np.array_equal(np.asarray(grid(images, 256, zoom=1)), np.arange(8).reshape(4, 2))


@pytest.mark.parametrize("shape", [(0, 1, 2, 2), (1, 0, 2, 2), (1, 2, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match="grid"):
        grid(torch.zeros(shape, dtype=torch.uint8), 2)

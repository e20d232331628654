"""`nextpixel complete` with every way of saying what is known, and `sample --gif`."""

import json

import numpy as np
import pytest
from PIL import Image
from test_cli import TINY, folder, origin  # noqa: F401 - fixtures

QUICK = ["-n", "2", "--fills", "2", "--particles", "3", "--draws", "10"]


@pytest.fixture
def hole(folder):  # noqa: F811
    mask = np.zeros((6, 5), np.uint8)
    mask[2, 1:4] = 255
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(mask[:, :4]).save("narrow.png")
    Image.fromarray(mask // 2).save("dull.png")
    Image.fromarray(0 * mask).save("black.png")
    Image.fromarray(255 - 0 * mask).save("white.png")
    return folder


@pytest.mark.parametrize(
    ("what", "exact", "unknown"),
    [
        (["--rows", "4"], True, np.s_[4:, :]),
        (["--known", "top"], True, np.s_[3:, :]),
        (["--known", "left"], False, np.s_[:, 2:]),
        (["--box", "2,1,1,3"], False, np.s_[2, 1:4]),
        (["--mask", "mask.png"], False, np.s_[2, 1:4]),
        (["--mask", "mask.png", "--method", "ignore"], False, np.s_[2, 1:4]),
    ],
)
def test_what_is_known_is_kept_and_the_method_is_said(nextpixel, hole, what, exact, unknown):
    ended = nextpixel("complete", "run", *what, *QUICK, "--out", "done.npy", "--json", "done.json", "--gif", "done.gif")
    assert ended.status == 0, ended.err
    said = json.loads((hole / "done.json").read_text())
    assert said["exact"] is exact
    assert said["method"] in ended.out
    assert said["method"].startswith("exact" if exact else "naive" if "ignore" in what else "approximate")
    assert ("ESS" in ended.out) is not exact
    assert np.array(said["nats"]).shape == (2, 2)
    assert ("ess" in said) is not exact
    whole = np.load(hole / "bits.npz")["images"]
    done = np.load(hole / "done.npy").reshape(2, 2, 6, 5)
    mask = np.ones((6, 5), bool)
    mask[unknown] = False
    for fills in done:
        candidates = (whole[:, mask] == fills[0][mask]).all(1)
        assert candidates.any()
        assert (fills[0][mask] == fills[1][mask]).all()
    with Image.open(hole / "done.gif") as gif:
        assert gif.n_frames == min(48, int((~mask).sum())) + 1


def test_random_holes_and_a_page(nextpixel, hole):
    ended = nextpixel("complete", "run", "--random-hole", "0.3", *QUICK, "--out", "page.png")
    assert ended.status == 0, ended.err
    with Image.open(hole / "page.png") as page:
        assert page.size[0] > 100
    assert "page.png" in ended.out


def test_a_gif_of_sampling(nextpixel, hole):
    assert nextpixel("sample", "run", "-n", "3", "--gif", "drawn.gif").status == 0
    with Image.open(hole / "drawn.gif") as gif:
        assert gif.n_frames == 31
    assert nextpixel("train", "bits.npz", "--orders", "2", "--run", "several", *TINY).status == 0
    refused = nextpixel("sample", "several", "-n", "3", "--gif", "drawn.gif")
    assert refused.status == 2
    assert "--order" in refused.error()
    assert nextpixel("sample", "several", "-n", "3", "--gif", "drawn.gif", "--order", "flip-x").status == 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--mask narrow.png", "6x5"),
        ("--mask dull.png", "black (known) and white (unknown) only"),
        ("--mask black.png", "nothing to complete"),
        ("--mask white.png", "with sample"),
        ("--mask nowhere.png", "There is no picture"),
        ("--mask table.csv", "cannot be read"),
        ("--box 2,1,1", "TOP,LEFT,HEIGHT,WIDTH"),
        ("--box 2,1,1,b", "TOP,LEFT,HEIGHT,WIDTH"),
        ("--box 5,1,2,2", "does not lie in a picture of 6x5"),
        ("--box 0,0,6,5", "with sample"),
        ("--known lft", "Did you mean 'left'"),
        ("--random-hole 1.5", "between 0 and 1"),
        ("--rows 2 --box 1,1,1,1", "--rows and --box"),
        ("--rows 0", "with sample"),
        ("--box 1,1,1,1 --method exact", "cannot be taken into account"),
        ("--box 1,1,1,1 --method exakt", "Did you mean 'exact'"),
        ("--box 1,1,1,1 --particles 0", "particles must be positive"),
        ("--box 1,1,1,1 --temperature 0", "leave temperature"),
        ("--gif filling.png", ".gif"),
    ],
)
def test_a_mistake_gives_one_sentence(nextpixel, hole, flags, says):
    ended = nextpixel("complete", "run", *flags.split())
    assert ended.status == 2, ended.err
    assert says in ended.error()

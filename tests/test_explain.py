"""The figures that explain: their data against facts that were worked out by hand, and the command that draws them."""

import io
import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import nextpixel as npx
from nextpixel import figures
from nextpixel.checking.fields import measured_fields
from nextpixel.checking.streams import layer_fields, recurrence_fields, stack_fields
from nextpixel.networks import families
from nextpixel.tasks import explained
from nextpixel.tasks.animate import sampling_frames
from nextpixel.tasks.explanations import EXPLANATIONS

SIZE, PIXEL = (9, 11), (6, 5)
STRUCTURE = [name for name in EXPLANATIONS if name not in ("sampling", "distribution", "levels")]


def small(family, **options):
    torch.manual_seed(0)
    return npx.build(family, shape=(1, *SIZE), levels=2, **{"features": 6, **options}).eval()


@pytest.fixture
def quick(monkeypatch):
    """Beginners that have hardly begun."""
    made = explained.beginner.__wrapped__
    monkeypatch.setattr(explained, "beginner", lambda family, options=(): made(family, options, steps=2))


def drawn(figure):
    return [np.asarray(image.get_array()) for axis in figure.axes for image in axis.get_images()]


# Masks: van den Oord et al. 2016a, section 3.4 and figure 2.


@pytest.mark.parametrize("family", ["pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm", "local"])
def test_masks_let_each_channel_see_what_the_paper_says(family):
    shape = {"blocks": 1} if family == "pixelcnn" else {"layers": 2}
    model = npx.build(family, shape=(3, 5, 5), levels=4, features=6, **shape)
    layers = [layer for layer in figures.spatial_layers(model.network).values() if hasattr(layer, "mask")]
    assert {"A"} <= {layer.mask for layer in layers}
    for layer in layers:
        mask, (row, column) = figures.kernel_mask(layer)
        assert mask.shape[:2] == (3, 3)
        for to in range(3):
            for of in range(3):
                assert bool(mask[to, of, row, column]) == (of < to if layer.mask == "A" else of <= to)
                assert not mask[to, of, row, column + 1 :].any(), "right of the pixel"
                assert mask[to, of, row, :column].any(), "left of it all channels are seen"
        assert mask.shape[2] == row + 1, "nothing below"


def test_mask_a_of_one_channel_has_no_centre_and_mask_b_has():
    layers = figures.spatial_layers(small("pixelcnn", blocks=1, first_kernel=5).network)
    first, centre = figures.kernel_mask(layers["first"])
    assert centre == (2, 2)
    assert first[0, 0].int().tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    later, centre = figures.kernel_mask(layers["blocks.0.spatial"])
    assert centre == (1, 1)
    assert later[0, 0].int().tolist() == [[1, 1, 1], [1, 1, 0]]


def test_the_mask_page_has_a_panel_a_pair_in_the_papers_window():
    layer = figures.spatial_layers(npx.build("pixelcnn", shape=(3, 5, 5), levels=4, features=6).network)["first"]
    panels = drawn(figures.mask_page(layer))
    assert len(panels) == 9
    dark = panels[1][..., 0] < 0.5  # for R, looks at G
    assert dark.shape == (7, 7)
    assert dark.sum() == 7 * 3 + 3


def test_a_cut_kernel_is_drawn_as_it_is_cut():
    layer = figures.spatial_layers(small("local", layers=1, slope=1, first_kernel=5).network)["first"]
    mask, _ = figures.kernel_mask(layer)  # at most 1·m − 1 columns to the right in the m-th row above
    assert mask[0, 0].int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]


# Fields.


def test_the_blind_spot_is_the_triangle_that_no_path_reaches():
    plain = small("pixelcnn", blocks=14, first_kernel=3)
    gated = small("gated_pixelcnn", layers=14, first_kernel=3)
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij")
    past = rows * 11 + columns < PIXEL[0] * 11 + PIXEL[1]
    # A 3×3 layer steps one to the right only where it steps one up.
    blind = past & (rows < PIXEL[0]) & (columns - PIXEL[1] > PIXEL[0] - rows)
    seen = measured_fields(plain, SIZE, [PIXEL], seeds=4)[0]
    assert torch.equal(past & ~seen, blind)
    assert torch.equal(measured_fields(gated, SIZE, [PIXEL], seeds=4)[0], past)
    left, right = figures.blind_spot(plain, gated, SIZE, PIXEL).axes[:2]
    orange = np.array([0xF2, 0xA6, 0x5A]) / 255
    assert np.array_equal(np.isclose(left.get_images()[0].get_array(), orange).all(-1), blind.numpy())
    assert not np.isclose(right.get_images()[0].get_array(), orange).all(-1).any()
    assert f"{int(blind.sum())} pixels never seen" in left.get_title()


@pytest.mark.parametrize(
    ("family", "name"), [("pixelcnn", "blocks"), ("gated_pixelcnn", "layers"), ("local", "layers")]
)
def test_after_every_layer_the_field_is_that_of_a_shallower_network(family, name):
    fields = layer_fields(small(family, **{name: 3}), SIZE, PIXEL)
    assert len(fields) == (4 if family == "gated_pixelcnn" else 5), "the first layer, the blocks, the end"
    blocks = fields[:3] if family == "gated_pixelcnn" else fields[1:4]
    for depth, seen in enumerate(blocks, 1):
        assert torch.equal(seen, small(family, **{name: depth}).network.receptive_field(*SIZE, *PIXEL)), depth
    assert torch.equal(fields[-1], fields[-2])


def test_the_stacks_share_out_what_is_seen():
    vertical, horizontal = stack_fields(small("gated_pixelcnn", layers=6), SIZE, PIXEL)
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij")
    assert torch.equal(vertical, rows < PIXEL[0])
    assert torch.equal(horizontal, (rows == PIXEL[0]) & (columns < PIXEL[1]))


def test_the_row_lstm_sees_a_triangle_and_the_diagonals_two_quarters():
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij")
    up, right = PIXEL[0] - rows, columns - PIXEL[1]
    (triangle,) = recurrence_fields(small("row_lstm", layers=1), SIZE, PIXEL)
    # width 3: a state up by m reaches m columns either side, its input one more to the left, none to the right
    assert torch.equal(triangle, (up >= 0) & (right <= up) & (right >= -up - 1))
    left, back = recurrence_fields(small("diagonal_bilstm", layers=1), SIZE, PIXEL)
    assert torch.equal(left, (up >= 0) & (right <= 0))
    assert torch.equal(back, (up >= 1) & (right >= 0))


def test_the_skewed_map_moves_each_row_one_further():
    picture = torch.arange(1, 3 * 4 * 5 + 1).view(3, 4, 5)
    skewed, inside = figures.skew(picture)
    assert skewed.shape == (3, 4, 8)
    for row in range(4):
        assert torch.equal(skewed[:, row, row : row + 5], picture[:, row])
        assert inside[row].nonzero().flatten().tolist() == list(range(row, row + 5))
    assert not skewed[:, ~inside].any()


# Schedules and orders.


def test_step_numbers_are_those_of_the_schedules():
    height, width = 4, 7
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    gated = small("gated_pixelcnn", layers=1)
    assert torch.equal(figures.steps_by_pixel(gated, (height, width)), rows * width + columns)
    assert torch.equal(figures.steps_by_row(gated, (height, width)), rows.long())
    for family, options, slope in (("local", {"slope": 2, "layers": 1}, 2), ("pixelcnn", {"blocks": 1}, 4)):
        steps = figures.steps_by_diagonal(small(family, **options), (height, width))
        assert torch.equal(steps, slope * rows + columns)
        assert int(steps.max()) + 1 == width + slope * (height - 1)
    with pytest.raises(npx.UserError, match="no vertical stack"):
        figures.steps_by_row(small("pixelcnn", blocks=1), (height, width))


def test_step_numbers_with_channels():
    model = npx.build("local", shape=(3, 4, 5), levels=4, features=6, layers=1).eval()
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij")
    assert torch.equal(figures.steps_by_diagonal(model, (4, 5)), 2 * rows + columns)
    assert torch.equal(figures.steps_by_pixel(model, (4, 5)), 5 * rows + columns)


# Values.


def test_the_ladder_shows_as_many_values_as_levels():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 256).expand(3, 4, 256)
    panels = drawn(figures.ladder(ramp, (2, 16, 256)))
    assert [len(np.unique(panel)) for panel in panels] == [2, 16, 256]
    assert np.array_equal(panels[2], ramp.permute(1, 2, 0).numpy()), "256 levels leave it as it was"


def test_the_scene_has_smooth_gradients():
    scene = figures.scene()
    assert (scene.dtype, scene.shape[0]) == (torch.uint8, 3)
    assert len(scene.unique()) > 128


def test_the_next_pixel_is_the_steppers_distribution(tiny):
    model = tiny(double=True, spread=0.4)
    image = torch.randint(4, (1, 4, 5))
    stepper = model.stepper(1)
    while stepper.position != (2, 3, 0):
        row, column, channel = stepper.position
        stepper.push(image[channel, row, column].view(1))
    pmf = figures.next_pmf(model, image, (2, 3))
    torch.testing.assert_close(pmf, stepper.pmf()[0])
    figure = figures.next_pixel(model, image, (2, 3))
    bars = figure.axes[1].patches[:4]
    assert np.allclose([bar.get_height() for bar in bars], pmf)
    with pytest.raises(npx.UserError, match="There is no pixel 4,0 in a picture of 4x5"):
        figures.next_pmf(model, image, (4, 0))


def test_frames_end_in_the_pictures_that_sample_draws(tiny):
    model = tiny(spread=0.4)
    frames = sampling_frames(model.train(), 3, frames=7, seed=5)
    assert model.training, "the mode is what it was"
    model.eval()
    assert frames.shape == (8, 3, 1, 4, 5)
    assert not frames[0].any()
    assert torch.equal(frames[-1], npx.sample(model, 3, seed=5, method="cursor").long())
    for before, after in itertools.pairwise(frames):
        assert torch.equal(after[before > 0], before[before > 0]), "what is drawn stays"
    gif = Image.open(io.BytesIO(figures.animation(frames, 4)))
    assert (gif.format, gif.n_frames) == ("GIF", 8)
    gif.seek(7)
    assert gif.info["duration"] == 1500
    with pytest.raises(npx.UserError, match="An animation needs frames"):
        figures.animation(frames[0], 4)


# The command.


ONE_FAMILY = {
    "blind-spot": {"pixelcnn", "gated_pixelcnn"},
    "stacks": {"gated_pixelcnn", "pixelcnnpp"},
    "row-lstm": {"row_lstm"},
    "diagonal-bilstm": {"diagonal_bilstm"},
}
NONE_OF = {"masks": {"nade"}, "growth": {"made", "nade"}}


def check_figure(what, family, folder, assert_sentence):
    if family not in ONE_FAMILY.get(what, {family}) or family in NONE_OF.get(what, ()):
        with pytest.raises(npx.UserError, match=family) as refused:
            npx.explain([what], family, folder, kind="svg")
        assert_sentence(refused)
        return
    files = npx.explain([what], family, folder, kind="svg")
    captions = files[-1].read_text()
    for file in files[:-1]:
        ElementTree.parse(file)
        assert f"]({file.name})" in captions
    assert captions.count("![") == len(files) - 1 > 0


@pytest.mark.full
@pytest.mark.parametrize("what", STRUCTURE)
@pytest.mark.parametrize("family", families())
def test_every_figure_of_every_family_or_a_sentence(what, family, tmp_path, assert_sentence):
    check_figure(what, family, tmp_path, assert_sentence)


@pytest.mark.parametrize(
    ("what", "family"),
    [
        *((what, family) for what in ONE_FAMILY for family in families() if family not in ONE_FAMILY[what]),
        *((what, family) for what in NONE_OF for family in sorted(NONE_OF[what])),
        ("masks", "made"),
        ("masks", "pixelsnail"),
        ("growth", "local"),
        ("wavefront", "nade"),
    ],
)
def test_figures_of_some_families_or_a_sentence(what, family, tmp_path, assert_sentence):
    check_figure(what, family, tmp_path, assert_sentence)


@pytest.mark.parametrize("family", ["gated_pixelcnn", "made", "nade"])
def test_figures_of_models_that_have_learnt(tmp_path, quick, family):
    files = npx.explain(["sampling", "distribution"], family, tmp_path)
    assert [path.name for path in npx.explain("distribution", family, tmp_path / "one")][:1] == [files[1].name]
    assert [file.name for file in files] == ["sampling.gif", "distribution.png", "captions.md"]
    with Image.open(files[0]) as gif:
        assert gif.n_frames == 33
    with Image.open(files[1]) as picture:
        assert picture.info["Title"] == "The next pixel"
        assert picture.info["Description"]


def test_everything_at_once(tmp_path, nextpixel, quick):
    ended = nextpixel("explain", "--out", tmp_path / "all")
    assert ended.status == 0, ended.err
    captions = (tmp_path / "all" / "captions.md").read_text()
    for entry in EXPLANATIONS.values():
        assert f"## {entry.title}\n" in captions
    pictures = [path for path in (tmp_path / "all").iterdir() if path.suffix != ".md"]
    assert len(pictures) == captions.count("![") == len(EXPLANATIONS) + 1, "two masks, one of everything else"
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width >= 200


def test_a_model_with_its_data(tmp_path, nextpixel, digits):
    model = npx.build("gated_pixelcnn", like=digits, classes=10, layers=1, features=4, orders="raster,flip-x")
    model.eval().save_pretrained(tmp_path / "model")
    what = ["growth", "stacks", "orders", "wavefront", "distribution", "sampling", "masks"]
    ended = nextpixel("explain", *what, "--model", tmp_path / "model", "--out", tmp_path / "out", "--data", "digits")
    assert ended.status == 0, ended.err


def test_what_does_not_apply_is_left_out(tmp_path, quick):
    names = {path.name for path in npx.explain([], "nade", tmp_path, kind="svg")}
    wanted = {"field-nade.svg", "levels.svg", "orders.svg", "wavefront.svg", "distribution.svg", "sampling.gif"}
    assert names == {*wanted, "captions.md"}


def test_a_multiscale_model_has_some_of_them(tmp_path, digits):
    model = npx.build_multiscale("gated_pixelcnn", like=digits, scale=2, layers=1, features=4).eval()
    assert len(npx.explain(["sampling", "distribution"], model, tmp_path)) == 3
    with pytest.raises(npx.UserError, match="one of a single network"):
        npx.explain(["masks"], model, tmp_path)


def test_a_picture_of_the_users(tmp_path, nextpixel):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    ended = nextpixel("explain", "levels", "--data", tmp_path / "mine.png", "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    ended = nextpixel("explain", "diagonal-bilstm", "--data", "digits", "--out", tmp_path / "out")
    assert ended.status == 0, ended.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["blindspot"], "There is no figure 'blindspot'; there are: masks"),
        (["masks", "--format", "pdf"], "Figures are written as png or svg, not 'pdf'"),
        (
            ["masks", "--model", "gatedpixelcnn"],
            "'gatedpixelcnn' is no run or model folder, no shipped model (",
        ),
        (["masks", "--layer", "nowhere"], "There is no layer 'nowhere' with a mask; there are: first"),
        (["row-lstm", "--model", "pixelcnn"], "is about row_lstm; the family pixelcnn has none"),
        (["masks", "--option", "blocks=2"], "Options are for a family that is built here"),
        (["masks", "--model", "pixelcnn", "--option", "deep=2"], "There is no option 'deep'"),
        (["masks", "--out", "taken"], "The folder taken cannot be written (it is a file)"),
        (["levels", "--data", "nothing-here"], "nothing-here"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, nextpixel, assert_sentence, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    ended = nextpixel("explain", *arguments)
    assert ended.status == 2
    assert sentence in ended.error()
    assert_sentence(ended.error())


def test_the_same_svg_every_time(tmp_path):
    first = npx.explain(["blind-spot"], None, tmp_path / "a", kind="svg")[0].read_bytes()
    assert npx.explain(["blind-spot"], None, tmp_path / "b", kind="svg")[0].read_bytes() == first

"""Pictures of what a model is and does, as matplotlib figures; every one is drawn from the code or the model itself."""

from nextpixel.figures.animation import animation
from nextpixel.figures.curves import curve
from nextpixel.figures.fields import blind_spot, diagonal_bilstm, growth, receptive_field, row_lstm, skew, stacks
from nextpixel.figures.filling import filling
from nextpixel.figures.masks import connection_page, kernel_mask, mask_page, masked_layers, spatial_layers
from nextpixel.figures.neighbours import MOST_NEIGHBOURS, neighbour_page
from nextpixel.figures.pages import bits_page, completion_page, surprise, surprise_map, surprise_sheet
from nextpixel.figures.schedules import order_page, schedule_page, steps_by_diagonal, steps_by_pixel, steps_by_row
from nextpixel.figures.style import as_picture, new_figure, save_figure, show
from nextpixel.figures.values import ladder, next_pixel, next_pmf, scene

__all__ = [
    "MOST_NEIGHBOURS",
    "animation",
    "as_picture",
    "bits_page",
    "blind_spot",
    "completion_page",
    "connection_page",
    "curve",
    "diagonal_bilstm",
    "filling",
    "growth",
    "kernel_mask",
    "ladder",
    "mask_page",
    "masked_layers",
    "neighbour_page",
    "new_figure",
    "next_pixel",
    "next_pmf",
    "order_page",
    "receptive_field",
    "row_lstm",
    "save_figure",
    "scene",
    "schedule_page",
    "show",
    "skew",
    "spatial_layers",
    "stacks",
    "steps_by_diagonal",
    "steps_by_pixel",
    "steps_by_row",
    "surprise",
    "surprise_map",
    "surprise_sheet",
]

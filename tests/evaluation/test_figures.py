import base64
import io

import numpy as np
import torch
from PIL import Image

from genie.data.images import png
from genie.evaluation import figures


def read_image(figure):
    with Image.open(io.BytesIO(figure.data)) as image:
        return np.asarray(image)


def test_contact_sheet_shows_every_pixel_as_a_square():
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    frames[1, 3, 5] = [250, 10, 20]
    sheet = np.asarray(figures.contact_sheet([("row", frames)], ["a", "b"]))
    red = np.argwhere((sheet == [250, 10, 20]).all(-1))
    assert len(red) == 64  # enlarged eight times
    assert (red.max(0) - red.min(0)).tolist() == [7, 7]


def test_small_frames_are_enlarged_and_large_ones_are_not():
    assert figures.magnification(64, 64) == 2
    assert figures.magnification(16, 8) == 8
    assert figures.magnification(200, 300) == 1


def test_heat_runs_from_black_to_white():
    colours = figures.heat(np.array([0.0, 64 / 3, 128 / 3, 64.0, 200.0]))
    assert colours.tolist() == [
        [0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255], [255, 255, 255],
    ]  # fmt: skip


def test_a_picture_is_an_address_that_needs_no_request():
    picture = figures.Figure("x", "caption", png(np.zeros((4, 4, 3), np.uint8)), "rollouts")
    head, _, body = picture.uri.partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == picture.data


def test_button_sheet_marks_what_differs_from_the_stillest_action(game):
    prompt = game.draw(torch.tensor(5))
    held = game.draw(torch.tensor([[5, 5], [6, 7]]))
    figure = figures.action_figure(2, prompt, held, stillest=0)
    assert (figure.name, figure.section) == ("actions_2", "held_actions")
    sheet = read_image(figure)
    white = (sheet == 255).all(-1)
    # Two cells of 4 x 4 pixels, magnified eight times: where the square was and where it went.
    assert white.sum() == 2 * (4 * 8) ** 2
    assert white[: sheet.shape[0] // 2].sum() == 0


def test_clip_sheet_has_a_row_for_each_side(game):
    real = game.draw(torch.arange(4))
    played = dict.fromkeys(("real video", "reconstruction", "inferred", "random"), real)
    figure = figures.clip_figure(1, real[0], played, [1, 4])
    assert (figure.name, figure.section) == ("clip_1", "rollouts")
    height, width, _ = read_image(figure).shape
    assert height > 4 * 128
    assert width > 3 * 128

"""From images and conditions to what a network reads."""

import pytest
import torch

from nextpixel.embedding import ConditionEmbedding, SymbolEmbedding
from nextpixel.errors import UserError


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_scaled_values_lie_on_minus_one_to_one_beside_a_constant(levels):
    embedding = SymbolEmbedding(1, levels, "scaled", 16, ordered=False)
    x = torch.arange(levels).view(1, 1, 1, levels)
    found = embedding(x, torch.empty(0, dtype=torch.float64))
    assert found.shape == (1, 1, levels, 2)
    assert (found[..., 0] == 1).all(), "tells grey from what is outside the image"
    expected = torch.tensor([-1 + 2 * v / (levels - 1) for v in range(levels)], dtype=torch.float64)
    torch.testing.assert_close(found[0, 0, :, 1], expected)
    assert found[0, 0, 0, 1] == -1
    assert found[0, 0, -1, 1] == 1


@pytest.mark.parametrize(("kind", "each"), [("scaled", 1), ("learned", 4)])
def test_every_channel_is_a_group_of_its_own_if_the_network_orders_them(kind, each):
    ordered = SymbolEmbedding(3, 5, kind, 4, ordered=True)
    together = SymbolEmbedding(3, 5, kind, 4, ordered=False)
    assert ordered.layout.sizes == (each + 1, each, each)
    assert together.layout.sizes == (3 * each + 1,)
    x = torch.randint(5, (2, 3, 4, 6))
    assert ordered(x, torch.empty(0)).shape == (2, 4, 6, 3 * each + 1)


@pytest.mark.parametrize("kind", ["scaled", "learned"])
def test_a_channel_enters_its_own_group_only(kind):
    embedding = SymbolEmbedding(3, 5, kind, 4, ordered=True)
    groups = embedding.layout.channel()
    x = torch.randint(4, (1, 3, 2, 2))
    for channel in range(3):
        changed = x.clone()
        changed[:, channel] += 1
        differs = (embedding(x, torch.empty(0)) != embedding(changed, torch.empty(0))).flatten(0, 2).any(0)
        assert groups[differs].unique().tolist() == [channel]


def test_learned_codes_have_no_order():
    embedding = SymbolEmbedding(1, 512, "learned", 4, ordered=False)
    x = torch.randint(512, (2, 1, 3, 3))
    found = embedding(x, torch.empty(0))
    assert torch.equal(found[..., 1:], embedding.tables[0].weight[x[:, 0]])


def test_embedding_one_channel_is_part_of_embedding_all():
    for kind in ("scaled", "learned"):
        embedding = SymbolEmbedding(3, 5, kind, 4, ordered=True)
        x = torch.randint(5, (2, 3, 4, 6))
        parts = [embedding.channel(x[:, c], c, torch.empty(0)) for c in range(3)]
        assert torch.equal(torch.cat(parts, -1), embedding(x, torch.empty(0)))


# Conditions


def conditions(classes=None, vector=None, map_shape=None, size=(5, 7), map_levels=None):
    return ConditionEmbedding(6, classes, vector, map_shape, size, map_levels)


LIKE = torch.empty(0)


def test_a_class_is_one_row_of_a_table():
    embedding = conditions(classes=3)
    for given, labels in ((2, [2, 2]), (torch.tensor(1), [1, 1]), ([0, 2], [0, 2]), ({"class": [0, 2]}, [0, 2])):
        found = embedding(embedding.parts(given, 2, LIKE), (5, 7))
        assert found.shape == (2, 1, 1, 6)
        assert torch.equal(found[:, 0, 0], embedding.table.weight[labels])
    assert embedding.only_classes


def test_one_vector_for_all_or_one_each():
    embedding = conditions(vector=3)
    each = torch.randn(4, 3)
    found = embedding(embedding.parts(each, 4, LIKE), (5, 7))
    assert found.shape == (4, 1, 1, 6)
    for n in range(4):
        alone = embedding(embedding.parts(each[n], 2, LIKE), (5, 7))
        torch.testing.assert_close(alone, found[n : n + 1].expand(2, 1, 1, 6))
    assert not embedding.only_classes


@pytest.mark.parametrize("map_shape", [(2, 5, 7), (2, 3, 4), (2, 1, 1), (2, 5, 1), (2, 9, 9)])
def test_a_map_grows_to_the_image_and_is_cropped(map_shape):
    embedding = conditions(map_shape=map_shape)
    found = embedding(embedding.parts(torch.randn(3, *map_shape), 3, LIKE), (5, 7))
    assert found.shape == (3, 5, 7, 6)


def test_a_map_of_codes_is_what_the_map_of_their_vectors_is():
    coded, dense = conditions(map_shape=(2, 3, 4), map_levels=9), conditions(map_shape=(6, 3, 4))
    dense.map.load_state_dict(coded.map.state_dict())
    codes = torch.randint(9, (3, 2, 3, 4))
    vectors = sum(coded.codes[depth].weight[codes[:, depth]] for depth in range(2)).permute(0, 3, 1, 2)
    found = coded(coded.parts(codes, 3, LIKE), (5, 7))
    torch.testing.assert_close(found, dense({"map": vectors}, (5, 7)))
    assert not coded.only_classes


def test_codes_stay_exact_in_models_of_half_precision():
    embedding = conditions(map_shape=(1, 3, 4), map_levels=16384)
    parts = embedding.parts(torch.full((1, 1, 3, 4), 16383), 1, torch.empty(0, dtype=torch.float16))
    assert parts["map"].unique().tolist() == [16383]


def test_a_map_of_the_images_size_stays_in_place():
    """Each pixel of the map reaches its own pixel only."""
    embedding = conditions(map_shape=(1, 5, 7))
    base = embedding(embedding.parts(torch.zeros(1, 1, 5, 7), 1, LIKE), (5, 7))
    changed = torch.zeros(1, 1, 5, 7)
    changed[0, 0, 2, 3] = 1
    differs = (embedding(embedding.parts(changed, 1, LIKE), (5, 7)) != base).any(-1)[0]
    assert differs.nonzero().tolist() == [[2, 3]]


def test_several_conditions_are_added():
    embedding = conditions(classes=3, vector=2, map_shape=(1, 5, 7))
    given = {"class": 1, "vector": torch.ones(2), "map": torch.randn(1, 1, 5, 7)}
    parts = embedding.parts(given, 1, LIKE)
    alone = [embedding({kind: parts[kind]}, (5, 7)) for kind in parts]
    torch.testing.assert_close(embedding(parts, (5, 7)), alone[0] + alone[1] + alone[2])


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        ({"classes": 3}, None, ""),
        ({"classes": 3}, 3, "no class 3.*0..2"),
        ({"classes": 3}, -1, "no class -1"),
        ({"classes": 3}, [0, 5], "no class 5"),
        ({"classes": 3}, 1.0, "integers"),
        ({"classes": 3}, [0, 1, 2], "one class per picture"),
        ({"classes": 3}, [[0], [1]], "one class per picture"),
        ({"classes": 3}, "two", ""),
        ({"classes": 3}, {"class": None}, ""),
        ({"classes": 3}, {"vector": 1}, "keys class"),
        ({"classes": 3}, {}, "keys class"),
        ({"vector": 3}, None, ""),
        ({"vector": 3}, torch.zeros(2), r"shape \[2, 3\]"),
        ({"vector": 3}, torch.zeros(3, 3), r"shape \[2, 3\]"),
        ({"vector": 3}, torch.zeros(2, 3, 1), r"shape \[2, 3\]"),
        ({"vector": 3}, "red", ""),
        ({"map_shape": (2, 3, 4)}, torch.zeros(3, 3, 4), "shape"),
        ({"map_shape": (2, 3, 4)}, torch.zeros(2, 1, 3, 4), "shape"),
        ({"map_shape": (2, 3, 4)}, torch.zeros(3, 2, 3, 4), "shape"),
        ({"map_shape": (2, 3, 4)}, torch.zeros(3, 4), "shape"),
        ({"map_shape": (2, 3, 4), "map_levels": 5}, torch.zeros(2, 2, 3, 4), "integers 0..4"),
        ({"map_shape": (2, 3, 4), "map_levels": 5}, torch.full((2, 2, 3, 4), 5), "value 5"),
        ({"map_shape": (2, 3, 4), "map_levels": 5}, torch.full((2, 2, 3, 4), -1), "value -1"),
        ({"map_shape": (2, 3, 4), "map_levels": 5}, torch.zeros(2, 1, 3, 4).long(), "shape"),
        ({"classes": 3, "vector": 2}, 1, "dict with the keys class, vector"),
        ({"classes": 3, "vector": 2}, {"class": 1}, "keys class, vector"),
        ({"classes": 3, "vector": 2}, {"class": 1, "vector": None}, ""),
        ({"classes": 3, "vector": 2}, {"class": 1, "vector": [0.0, 0.0], "map": 1}, "keys class, vector"),
    ],
)
def test_what_does_not_fit_is_refused(options, given, words, assert_sentence):
    with pytest.raises(UserError, match=words or ".") as caught:
        conditions(**options).parts(given, 2, LIKE)
    assert_sentence(caught)


def test_a_map_that_does_not_cover_the_picture_is_refused(assert_sentence):
    embedding = conditions(map_shape=(2, 3, 4))
    with pytest.raises(UserError, match="larger map") as caught:
        embedding(embedding.parts(torch.zeros(2, 2, 2), 1, LIKE), (5, 7))
    assert_sentence(caught)

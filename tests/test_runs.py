"""Memory: what was written is what is read, and what was not written cannot be read."""

import pytest
import torch

from nextpixel.causal import Cursor, Layout, Memory, Ring, UnwrittenError, Whole


def ring(rows=2, width=3, features=2, left=1, right=1, n=2):
    return Ring(torch.zeros(0, dtype=torch.float64), n, rows, width, features, left, right)


def row_of(value, n=2, width=3, features=2):
    return torch.full((n, width, features), float(value), dtype=torch.float64)


def test_above_and_beside_the_picture_is_zero():
    memory = ring()
    assert memory.block(-2, -1).shape == (2, 2, 5, 2)
    assert not memory.block(-2, -1).any()
    assert not memory.window(0, 0, 1, 0).any()
    memory.write_row(0, row_of(7))
    block = memory.block(-1, 0)
    assert not block[:, 0].any()
    assert not block[:, 1, 0].any()
    assert not block[:, 1, -1].any()
    assert (block[:, 1, 1:4] == 7).all()


def test_the_padding_stays_zero_when_rows_come_round():
    memory = ring(rows=2)
    for row in range(5):
        for column in range(3):
            memory.write(row, column, 0, row_of(row + 1)[:, 0])
    block = memory.block(3, 4)
    assert not block[:, :, 0].any()
    assert not block[:, :, -1].any()
    assert block[0, :, 1, 0].tolist() == [4, 5]


def test_rows_are_given_in_order_whatever_their_slot():
    memory = ring(rows=3)
    for row in range(7):
        memory.write_row(row, row_of(row + 1))
        if row >= 2:
            assert memory.block(row - 2, row)[0, :, 1, 0].tolist() == [row - 1, row, row + 1]


def test_a_window_is_the_positions_before_and_part_of_this_one():
    memory = ring(width=4, left=2)
    for column in range(3):
        memory.write(0, column, 0, torch.tensor([[10 * column + 1.0, 10 * column + 2.0]] * 2))
    memory.write(0, 3, 0, torch.tensor([[31.0]] * 2))
    assert memory.window(0, 3, 2, 1)[0].tolist() == [11, 12, 21, 22, 31]
    assert memory.window(0, 1, 2, 2)[0].tolist() == [0, 0, 1, 2, 11, 12]
    with pytest.raises(UnwrittenError):
        memory.window(0, 3, 2, 2)


@pytest.mark.parametrize(("column", "start"), [(1, 0), (0, 1), (2, 1)])
def test_writing_out_of_order_is_noticed(column, start):
    with pytest.raises(UnwrittenError):
        ring().write(0, column, start, torch.zeros(2, 1))


def test_a_new_row_forgets_the_old_one():
    memory = ring(rows=2)
    memory.write_row(0, row_of(1))
    memory.write_row(1, row_of(2))
    memory.write(2, 0, 0, torch.zeros(2, 2))  # takes the place of row 0
    for first, last in ((0, 1), (1, 2), (2, 2), (3, 3)):
        with pytest.raises(UnwrittenError):
            memory.block(first, last)
    assert (memory.block(1, 1)[:, :, 1:4] == 2).all()
    with pytest.raises(UnwrittenError):
        memory.window(2, 2, 1, 0)


def test_a_ring_that_is_too_small_is_noticed():
    memory = ring(rows=2)
    for row in range(3):
        memory.write_row(row, row_of(row))
    with pytest.raises(UnwrittenError):
        memory.block(0, 2)


def test_writing_twice_is_harmless():
    memory = ring()
    for value in (1.0, 2.0, 2.0):
        memory.write(0, 0, 0, torch.full((2, 2), value))
    memory.write(0, 1, 0, torch.full((2, 2), 3.0))
    assert memory.window(0, 2, 2, 0)[0].tolist() == [2, 2, 3, 3]


def test_the_last_rows_of_a_whole():
    memory = ring(rows=3)
    memory.write_last_rows(torch.arange(5.0).view(1, 5, 1, 1).expand(2, 5, 3, 2))
    assert memory.block(2, 4)[0, :, 1, 0].tolist() == [2, 3, 4]
    short = ring(rows=3)
    short.write_last_rows(torch.full((2, 1, 3, 2), 5.0))
    assert short.block(-2, 0)[0, :, 1, 0].tolist() == [0, 0, 5]


def test_a_forks_memory_is_its_own():
    memory = Memory(torch.zeros(0), 2, 4, 3)
    memory.input = ring()
    owner = torch.nn.Identity()
    memory.ring(owner, 1, 2).write_row(0, torch.arange(12.0).view(2, 3, 2))
    memory.row_results[owner] = (0, torch.tensor([[1.0], [2.0]]))
    memory.input.write(0, 0, 0, torch.tensor([[1.0, 1.0], [2.0, 2.0]], dtype=torch.float64))
    fork = memory.fork(torch.tensor([1, 1, 0]))
    assert fork.n == 3
    assert fork.input.window(0, 1, 1, 0).tolist() == [[2, 2], [2, 2], [1, 1]]
    assert fork.rings[owner].block(0, 0)[:, 0, 0].tolist() == [[6, 7], [6, 7], [0, 1]]
    assert fork.row_results[owner][1].flatten().tolist() == [2, 2, 1]
    fork.input.write(0, 1, 0, torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(UnwrittenError):
        memory.input.window(0, 2, 1, 0)
    memory.input.write(0, 0, 0, torch.full((2, 2), 9.0, dtype=torch.float64))
    assert fork.input.window(0, 1, 1, 0).tolist() == [[2, 2], [2, 2], [1, 1]]


def test_plans_are_made_once_and_shared_by_forks():
    memory = Memory(torch.zeros(0), 1, 2, 2)
    memory.input = ring(n=1)
    made = []
    for _ in range(2):
        assert memory.plan("key", lambda: made.append(1) or "plan") == "plan"
    assert memory.fork(torch.tensor([0])).plan("key", lambda: made.append(1) or "other") == "plan"
    assert made == [1]


def test_a_rows_result_at_the_current_column_and_group():
    layout = Layout((2, 1), pieces=2)
    run = Cursor(Memory(torch.zeros(0), 1, 2, 3))
    context = torch.arange(18.0).view(1, 1, 3, 6)
    run.column = 1
    found = []
    for run.group in range(2):
        found.append(run.here(context, layout)[0].tolist())
    assert found == [[6, 7, 9, 10], [8, 11]]
    assert run.here(context, Layout((6,)))[0].tolist() == [6, 7, 8, 9, 10, 11]
    assert run.here(context[:, :, :1], Layout((6,)))[0].tolist() == [0, 1, 2, 3, 4, 5]  # the same for all columns
    assert Whole().here(context, layout) is context


def test_the_current_row_of_a_condition():
    run = Cursor(Memory(torch.zeros(0), 1, 3, 3))
    run.row = 2
    varying, same = torch.arange(9.0).view(1, 3, 3, 1), torch.ones(1, 1, 1, 1)
    assert run.row_of(varying).flatten().tolist() == [6, 7, 8]
    assert run.row_of(same) is same
    assert Whole().row_of(varying) is varying

"""Who has which blocks, and which are shared."""

from __future__ import annotations

import random

from aasut.engine.blocks import SIZE, Blocks, Lease, names

LONG = list(range(100))  # three whole blocks and a little


def filled(blocks: Blocks, tokens: list[int], answer: int = 10) -> Lease:
    lease = blocks.lease(names(tokens), len(tokens) + answer)
    assert lease is not None
    blocks.fill(lease, len(tokens))
    return lease


def test_names_tell_all_that_stands_before_and_leave_the_last_token_out() -> None:
    assert len(names(LONG)) == 3
    assert names(LONG[: 2 * SIZE]) == names(LONG)[:1]
    assert names(LONG[: 2 * SIZE + 1]) == names(LONG)[:2]
    assert names([])[:1] == names([1]) == []
    other = names([7, *LONG[1:]])
    assert not set(other) & set(names(LONG))
    assert names([*LONG[:SIZE], 7, *LONG[SIZE + 1 :]])[0] == names(LONG)[0]


def test_equal_beginnings_share_their_blocks_and_nothing_else() -> None:
    blocks = Blocks(12)
    first = filled(blocks, LONG)
    second = filled(blocks, LONG[:70] + [7] * 30)
    assert first.blocks[:2] == second.blocks[:2]
    assert not set(first.blocks[2:]) & set(second.blocks[2:])
    assert second.ready == 3
    assert blocks.free == 12 - len({*first.blocks, *second.blocks})


def test_what_was_given_back_is_found_again_until_its_block_is_needed() -> None:
    blocks = Blocks(4)
    blocks.release(filled(blocks, LONG))
    assert blocks.free == 4
    again = blocks.lease(names(LONG), 110)
    assert again is not None
    assert again.ready == 3
    blocks.release(again)
    blocks.release(filled(blocks, [9] * 100))  # needs all four
    cold = blocks.lease(names(LONG), 110)
    assert cold is not None
    assert cold.ready == 0


def test_the_end_of_a_beginning_is_given_up_before_its_start() -> None:
    blocks = Blocks(4)
    blocks.release(filled(blocks, LONG))
    blocks.release(filled(blocks, [9] * 40))  # two blocks: the one never named, and the end of LONG's
    lease = blocks.lease(names(LONG), 100)
    assert lease is not None
    assert lease.ready == 2


def test_too_few_blocks_give_no_lease_and_take_nothing() -> None:
    blocks = Blocks(5)
    held = filled(blocks, LONG)
    assert blocks.lease(names([9] * 40), 60) is None
    assert blocks.free == 1
    assert not blocks.comes(names([9] * 40))
    blocks.release(held)
    assert blocks.lease(names(LONG), 5 * SIZE) is not None  # those that it shares are not counted twice


def test_a_beginning_that_comes_is_said_until_it_is_there_or_given_up() -> None:
    blocks = Blocks(12)
    keys = names(LONG)
    lease = blocks.lease(keys, 110)
    assert lease is not None
    assert blocks.comes(keys)
    assert blocks.comes(names(LONG[:70] + [7] * 30))
    assert not blocks.comes(names([7] * 100))
    blocks.fill(lease, 40)
    assert blocks.comes(keys)  # its second block
    assert not blocks.comes(names(LONG[:40] + [7] * 60))
    blocks.release(lease)
    assert not blocks.comes(keys)


def test_no_block_is_ever_lost_or_held_by_two() -> None:
    rng = random.Random(1)
    blocks = Blocks(40)
    held: list[Lease] = []
    for _ in range(3000):
        if held and rng.random() < 0.5:
            blocks.release(held.pop(rng.randrange(len(held))))
            continue
        tokens = [rng.randrange(2)] * rng.randrange(1, 80) + [rng.randrange(3)] * rng.randrange(1, 80)
        lease = blocks.lease(names(tokens), len(tokens) + 40)
        if lease is not None:
            blocks.fill(lease, rng.randrange(len(tokens) + 1))
            held.append(lease)
        assert blocks.free == 40 - len({block for one in held for block in one.blocks})
        private = [block for one in held for block in one.blocks[one.ready :]]
        assert len(private) == len(set(private))
    for lease in held:
        blocks.release(lease)
    assert blocks.free == 40

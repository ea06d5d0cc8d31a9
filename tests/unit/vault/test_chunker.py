"""Cuts follow the rule, byte for byte, in every implementation."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.vault.content import chunker
from loopbackup.vault.content.chunker import Chunker, ChunkerParams, native, twin


class Cut(Protocol):
    """What every implementation looks like."""

    def __call__(
        self, key: bytes, data: memoryview, params: ChunkerParams, *, final: bool
    ) -> list[int]:
        """Return the ends of all chunks that *data* decides."""


IMPLEMENTATIONS: dict[str, Cut] = {
    "python": twin.cut,
    **{name: partial(native.cut, kernel=name) for name in native.KERNELS},
}
each_implementation = pytest.mark.parametrize(
    "cut", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys()
)

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "jpc-chunker.json").read_text("utf-8")
)
KEY = bytes.fromhex(VECTORS["key"])

# A cut in 300 windows and a jump in 8, so that short data see every rule.
SMALL = ChunkerParams(
    min_size=64, max_size=1_000, jump=40, t_cut=2**64 // 300, t_jump=2**64 // 300 + 2**61
)


def noise(length: int, name: str = "noise") -> bytes:
    """Return bytes that look random and are the same in every run."""
    return hashlib.shake_128(name.encode()).digest(length)


def vector_data(case: dict[str, Any]) -> bytes:
    """Make the data of a case as its ``data`` field tells."""
    source = re.match(r'SHAKE-128\("(.*)"\)', case["data"])
    if source is not None:
        return noise(case["data_len"], source[1])
    assert case["name"] == "small, records of 120 bytes"
    r = noise(120 + 40 * 8_738, "loopbackup jpc vector 2")
    return b"".join(r[120 + 40 * k : 160 + 40 * k] + r[40:120] for k in range(8_738))


def vector_params(case: dict[str, Any]) -> ChunkerParams:
    """Return the parameters of a case."""
    return ChunkerParams(
        min_size=case["min"],
        max_size=case["max"],
        jump=case["jump"],
        t_cut=case["t_cut"],
        t_jump=case["t_jump"],
    )


def window_value(key: bytes, window: bytes) -> int:
    """Return F of one window of 32 bytes."""
    encrypt = Cipher(AES256(key), ECB()).encryptor().update
    mixed = bytes(a ^ b for a, b in zip(encrypt(window[:16]), window[16:], strict=True))
    return int.from_bytes(encrypt(mixed)[:8], "little")


def cut_by_the_rule(key: bytes, data: bytes, params: ChunkerParams) -> list[int]:
    """Cut one window at a time, as the rule is written down."""

    def next_cut(start: int) -> int:
        end = min(start + params.max_size, len(data))
        jumped = [0] * 256
        i = start + params.min_size
        while i < end:
            y = window_value(key, data[i - 32 : i])
            if y < params.t_cut:
                return i
            if y < params.t_jump and jumped[y & 255] != y:
                jumped[y & 255] = y
                i += params.jump
            else:
                i += 1
        return end

    ends: list[int] = []
    while (start := ends[-1] if ends else 0) < len(data):
        ends.append(next_cut(start))
    return ends


@st.composite
def small_params(draw: st.DrawFn) -> ChunkerParams:
    """Draw short lengths, with cuts and jumps from nearly none to nearly everywhere."""
    min_size = draw(st.integers(64, 300))
    t_cut = 2 ** draw(st.integers(50, 61)) - draw(st.integers(0, 1_000))
    return ChunkerParams(
        min_size=min_size,
        max_size=draw(st.integers(min_size, 1_500)),
        jump=draw(st.integers(16, min_size)),
        t_cut=t_cut,
        t_jump=t_cut + 2 ** draw(st.integers(56, 63)),
    )


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw noise, runs and repetitions in any order."""
    repeated = st.tuples(st.binary(min_size=1, max_size=60), st.integers(1, 40)).map(
        lambda pair: pair[0] * pair[1]
    )
    runs = st.tuples(st.sampled_from([b"\0", b"\xff"]), st.integers(1, 900)).map(
        lambda pair: pair[0] * pair[1]
    )
    noises = st.tuples(st.integers(1, 900), st.integers(0, 2**32)).map(
        lambda pair: noise(pair[0], str(pair[1]))
    )
    return b"".join(draw(st.lists(repeated | runs | noises, max_size=5)))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
@each_implementation
def test_published_vectors_are_cut_as_published(cut: Cut, case: dict[str, Any]) -> None:
    """Every case of the vector file comes out cut for cut."""
    ends = cut(KEY, memoryview(vector_data(case)), vector_params(case), final=True)

    assert case["cuts"] == ends
    assert case["chunks"] == len(ends)


@each_implementation
@given(data=streams(), params=small_params(), key=st.binary(min_size=32, max_size=32))
def test_any_data_are_cut_by_the_rule(
    cut: Cut, data: bytes, params: ChunkerParams, key: bytes
) -> None:
    """Lanes, speculation and skipped runs never show in the result."""
    ends = cut(key, memoryview(data), params, final=True)

    assert cut_by_the_rule(key, data, params) == ends


@each_implementation
@given(data=streams(), pieces=st.lists(st.integers(1, 700), min_size=1, max_size=20))
def test_pieces_are_cut_like_the_whole(cut: Cut, data: bytes, pieces: list[int]) -> None:
    """However a stream arrives, the cuts are those of one call."""
    ends: list[int] = []
    begin = seen = 0
    for piece in pieces:
        seen = min(seen + piece, len(data))
        found = cut(KEY, memoryview(data)[begin:seen], SMALL, final=False)
        ends += [begin + end for end in found]
        begin = ends[-1] if ends else 0
    ends += [begin + end for end in cut(KEY, memoryview(data)[begin:], SMALL, final=True)]

    assert cut(KEY, memoryview(data), SMALL, final=True) == ends


@each_implementation
def test_any_length_and_alignment_is_cut_by_the_rule(cut: Cut) -> None:
    """No length near a multiple of the lanes and no start in memory makes a difference."""
    data = noise(700)
    lengths = range(len(data) - 80, len(data))

    got = [cut(KEY, memoryview(data)[n % 17 : n], SMALL, final=True) for n in lengths]

    assert [cut_by_the_rule(KEY, data[n % 17 : n], SMALL) for n in lengths] == got


@each_implementation
def test_bytes_behind_the_end_do_not_count(cut: Cut) -> None:
    """What stands in memory behind a buffer has no say in its cuts."""
    data = noise(2_000)

    for end in range(900, 1_000):
        alone = cut(KEY, memoryview(data[:end]), SMALL, final=True)
        followed = cut(KEY, memoryview(data)[:end], SMALL, final=True)

        assert alone == followed


@each_implementation
def test_a_chunk_is_decided_exactly_when_nothing_more_can_move_it(cut: Cut) -> None:
    """An end at the longest length is told as soon as so many bytes are there."""
    uncut = ChunkerParams(min_size=64, max_size=200, jump=64, t_cut=1, t_jump=2)
    data = memoryview(noise(1_000))

    assert cut(KEY, data[:199], uncut, final=False) == []
    assert cut(KEY, data[:200], uncut, final=False) == [200]
    assert cut(KEY, data[:399], uncut, final=False) == [200]
    assert cut(KEY, data[:399], uncut, final=True) == [200, 399]


@each_implementation
def test_zeros_are_cut_by_the_rule_at_default_lengths(cut: Cut) -> None:
    """A long run holds one window value: all its chunks are of the longest size."""
    params = ChunkerParams()
    data = memoryview(bytes(9 * 1024 * 1024))

    ends = cut(KEY, data, params, final=True)

    assert ends == [4_194_304, 8_388_608, 9_437_184]


@each_implementation
def test_a_run_in_the_jump_zone_jumps_once(cut: Cut) -> None:
    """A window value that has jumped goes on byte by byte, so an edit behind it is met."""
    everywhere = ChunkerParams(min_size=64, max_size=4_000, jump=64, t_cut=1, t_jump=2**64 - 1)
    data = bytes(1_500) + noise(1_500)

    ends = cut(KEY, memoryview(data), everywhere, final=True)

    assert cut_by_the_rule(KEY, data, everywhere) == ends


@each_implementation
def test_a_run_is_left_where_it_ends(cut: Cut) -> None:
    """The first window that reaches beyond a run is looked at, however long the run."""
    dense = ChunkerParams(min_size=64, max_size=1_000, jump=16, t_cut=2**62, t_jump=2**62 + 1)
    streams = [
        bytes(n) + mark + bytes(60) + noise(20)
        for n in range(64, 100)
        for mark in (b"!", b"?", b"!!", b"??", b"!?")
    ]

    got = [cut(KEY, memoryview(data), dense, final=True) for data in streams]

    assert [cut_by_the_rule(KEY, data, dense) for data in streams] == got


@each_implementation
def test_thresholds_are_not_below_themselves(cut: Cut) -> None:
    """A value equal to a threshold is on the far side of it."""
    for name in "abcdefgh":
        data = noise(200, name)
        y = window_value(KEY, data[32:64])
        for t_cut, t_jump in [(y, y + 1), (y + 1, y + 2), (y // 2, y), (y // 2, y + 1)]:
            params = ChunkerParams(min_size=64, max_size=1_000, jump=50, t_cut=t_cut, t_jump=t_jump)

            ends = cut(KEY, memoryview(data), params, final=True)

            assert cut_by_the_rule(KEY, data, params) == ends


@each_implementation
def test_a_value_that_lost_its_place_jumps_again(cut: Cut) -> None:
    """Of two values with one place in the table, the later one takes it."""
    jumpy = ChunkerParams(
        min_size=64, max_size=40_000, jump=40, t_cut=2**64 // 300, t_jump=2**64 - 1
    )
    for name in "abcdefgh":
        # All 120 values jump, then those whose place was taken jump again, and
        # the noise tells from its cuts at which phase the walk came in.
        data = noise(120, name) * 60 + noise(9_000)

        ends = cut(KEY, memoryview(data), jumpy, final=True)

        assert cut_by_the_rule(KEY, data, jumpy) == ends


@each_implementation
def test_an_inserted_byte_leaves_distant_cuts_alone(cut: Cut) -> None:
    """Fixed-width records with one byte put in are cut alike further on."""
    case = VECTORS["cases"][2]
    params = vector_params(case)
    data = vector_data(case)
    edited = data[:500_000] + b"!" + data[500_000:]

    before = cut(KEY, memoryview(data), params, final=True)
    after = cut(KEY, memoryview(edited), params, final=True)

    assert {end + 1 for end in before if end > 700_000} <= set(after)


@each_implementation
def test_more_chunks_than_one_batch_come_in_one_call(cut: Cut) -> None:
    """Thousands of chunks are returned at once, none lost between batches."""
    shortest = ChunkerParams(min_size=64, max_size=64, jump=16)

    ends = cut(KEY, memoryview(bytes(64 * 1_024)), shortest, final=False)

    assert list(range(64, 64 * 1_024 + 1, 64)) == ends


@each_implementation
@pytest.mark.parametrize("length", [1, 31, 32, 63, 64])
def test_input_up_to_the_shortest_length_is_one_chunk(cut: Cut, length: int) -> None:
    """Data too short to be cut are one chunk, and undecided while more may come."""
    data = memoryview(noise(length))

    assert cut(KEY, data, SMALL, final=True) == [length]
    assert cut(KEY, data, SMALL, final=False) == []


@each_implementation
def test_empty_input_has_no_chunk(cut: Cut) -> None:
    """Nothing is cut into nothing."""
    assert cut(KEY, memoryview(b""), SMALL, final=True) == []
    assert cut(KEY, memoryview(b""), SMALL, final=False) == []


@each_implementation
def test_every_bit_of_the_key_matters(cut: Cut) -> None:
    """Another key, other cuts: both halves of the key are used."""
    data = memoryview(noise(20_000))
    flipped = [bytes(b ^ (n == place) for n, b in enumerate(KEY)) for place in (0, 15, 16, 31)]

    cuts = {tuple(cut(key, data, SMALL, final=True)) for key in [KEY, *flipped]}

    assert len(cuts) == 5


@given(data=streams(), params=small_params())
def test_a_chunker_keeps_its_bounds(data: bytes, params: ChunkerParams) -> None:
    """Ends ascend to the length; chunks are neither too short nor too long."""
    ends = Chunker(KEY, params).cut(data, final=True)

    sizes = [b - a for a, b in pairwise([0, *ends])]
    assert sum(sizes) == len(data)
    assert all(size <= params.max_size for size in sizes)
    assert all(size >= params.min_size for size in sizes[:-1])


@pytest.mark.parametrize(
    "kind",
    [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("I")],
    ids=["bytes", "bytearray", "memoryview", "view of integers"],
)
def test_any_contiguous_buffer_is_cut_in_bytes(kind: Any) -> None:
    """Offsets are in bytes, whatever the buffer calls its items."""
    data = noise(4_000)

    ends = Chunker(KEY, SMALL).cut(kind(data), final=True)

    assert cut_by_the_rule(KEY, data, SMALL) == ends


def test_a_buffer_with_gaps_is_refused() -> None:
    """A strided view is an error of the caller, not a silent copy."""
    with pytest.raises(InputError, match="contiguous"):
        Chunker(KEY, SMALL).cut(memoryview(bytes(200))[::2], final=True)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    """A key is 32 bytes, and the message does not show it."""
    with pytest.raises(InputError) as caught:
        Chunker(b"k" * length)

    assert "kk" not in str(caught.value)


def test_a_chunker_does_not_show_its_key() -> None:
    """Neither repr nor str leads the key into a log."""
    shown = repr(Chunker(b"secret" * 5 + b"!!")) + str(Chunker(b"secret" * 5 + b"!!"))

    assert "secret" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_size": 63, "jump": 32},
        {"min_size": 4_194_305},
        {"max_size": 16 * 1024 * 1024 + 1},
        {"jump": 15},
        {"jump": 131_073},
        {"t_cut": 0},
        {"t_cut": 577_209_886_225_814_869},
        {"t_jump": 2**64},
    ],
    ids=str,
)
def test_parameters_out_of_bounds_are_refused(wrong: dict[str, int]) -> None:
    """A hostile header cannot make the cutter loop, overflow or cut nothing."""
    with pytest.raises(InputError) as caught:
        ChunkerParams(**wrong)

    assert caught.value.kind == "chunker_params"


def test_parameters_on_their_bounds_are_accepted() -> None:
    """The bounds themselves are allowed."""
    lowest = ChunkerParams(min_size=64, max_size=64, jump=16, t_cut=1, t_jump=2)
    highest = ChunkerParams(
        min_size=16 * 1024 * 1024,
        max_size=16 * 1024 * 1024,
        jump=16 * 1024 * 1024,
        t_cut=2**64 - 2,
        t_jump=2**64 - 1,
    )

    assert lowest.min_size == lowest.max_size == 64
    assert highest.jump == highest.max_size


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """However many chunkers are made, one line says which implementation cuts."""
    chunker._log_implementation.cache_clear()

    with caplog.at_level(logging.INFO, logger="loopbackup"):
        Chunker(KEY)
        Chunker(KEY)

    assert len(caplog.records) == 1
    assert ("kernel" in caplog.text) == (chunker.IMPLEMENTATION == "c")


WITHOUT_THE_CORE = """
import logging, sys
sys.modules["loopbackup.vault.content.chunker._jpc"] = None
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(levelname)s")
from loopbackup.vault.content import chunker
cutter = chunker.Chunker(bytes(32))
print(chunker.IMPLEMENTATION, cutter.cut(bytes(range(256)) * 4096, final=True))
"""


def test_without_the_core_the_twin_cuts_alike() -> None:
    """A missing extension costs speed and one warning, and changes no cut."""
    expected = Chunker(bytes(32)).cut(bytes(range(256)) * 4096, final=True)

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_CORE],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )

    assert ["WARNING", f"python {expected}"] == done.stdout.splitlines()

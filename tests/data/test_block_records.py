"""Block records: what NumPy saves is read, everything else is refused before it can act."""

import os
import pickle
import struct
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.data.block_records import read_block_records, write_block_records
from realm_jax.errors import CorpusError

RECORDS = [b"a block", b"", "S\u00e3o Paulo".encode(), b"\x00\xff" * 400]


def object_array(entries: list[Any]) -> np.ndarray:
    array = np.empty(len(entries), dtype=object)
    array[:] = entries
    return array


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_block_records(tmp_path / "block_records.npy", RECORDS)
    assert read_block_records(tmp_path / "block_records.npy") == RECORDS
    assert np.load(tmp_path / "block_records.npy", allow_pickle=True).tolist() == RECORDS


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bare_pickles_are_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "records.pkl"
    path.write_bytes(pickle.dumps(object_array(RECORDS), protocol=protocol))
    assert read_block_records(path) == RECORDS


def test_names_of_the_older_numpy_are_read(tmp_path: Path) -> None:
    path = tmp_path / "records.pkl"
    data = pickle.dumps(object_array(RECORDS), protocol=3)
    assert b"numpy._core.multiarray" in data
    path.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_block_records(path) == RECORDS


def test_many_records_share_no_length_limit(tmp_path: Path) -> None:
    records = [b"%d" % number for number in range(20_000)] + [b"x" * 200_000]
    write_block_records(tmp_path / "r.npy", records)
    assert read_block_records(tmp_path / "r.npy") == records


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def npy(payload: bytes, *, shape: str = "(1,)", descr: str = "'|O'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload


def hostile() -> dict[str, bytes]:
    marker = "MARKER"
    system = Call(os.system, f"touch {marker}")
    nested = pickle.dumps(object_array([b"fine", system]), protocol=3)
    announced = b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60)
    structured = np.zeros(2, dtype=[("a", "O"), ("b", "i4")])
    return {
        "a call": pickle.dumps(system),
        "a call in an entry": nested,
        "a call in a .npy file": npy(pickle.dumps(system, protocol=3)),
        "eval": pickle.dumps(Call(eval, f"open({marker!r}, 'w')")),
        "a getattr chain": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'__class__'\ntR.",
        "numpy's own loader": b"cnumpy\nload\n(S'x'\ntR.",
        "numpy by a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.min\x93.",
        "a file name for numpy.dtype": b"cnumpy\nfromfile\n(S'/etc/passwd'\ntR.",
        "copyreg": b"ccopyreg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
        "a persistent id": b"Pname\n.",
        "an extension code": b"\x82\x01.",
        "an out-of-band buffer": b"\x80\x05\x97.",
        "a length beyond the file": announced,
        "text entries": pickle.dumps(object_array(["text"])),
        "an int among bytes": pickle.dumps(object_array([b"x", 3])),
        "an array in an entry": pickle.dumps(object_array([b"x", object_array([b"y"])])),
        "numbers": pickle.dumps(np.arange(3.0)),
        "structured entries": pickle.dumps(structured),
        "two dimensions": pickle.dumps(object_array([b"a", b"b"]).reshape(1, 2)),
        "a bare list": pickle.dumps([b"a"]),
        "nothing": b"",
        "rubbish": b"\xff\xfe not a pickle",
        "a cut file": pickle.dumps(object_array(RECORDS), protocol=3)[:-20],
        "a .npy file of floats": npy(b"\0" * 8, descr="'<f8'"),
        "a header that is code": npy(b"", shape="__import__('os').getpid()"),
        "a header that does not end": npy(b"", shape="((((", descr="'|O"),
        "a header of another shape": npy(pickle.dumps(object_array([b"a", b"b"]), protocol=3)),
        "a dtype for an array": b"cnumpy\ndtype\n.",
        "a state set on the class": b"cnumpy\nndarray\nN}S'x'\nI1\nss\x86b.",
        "a deep nest": b"(" * 100_000 + b".",
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_and_broken_files_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block_records.npy").write_bytes(hostile()[name])
    with pytest.raises(CorpusError, match="byte strings and nothing else"):
        read_block_records(tmp_path / "block_records.npy")
    assert os.listdir(tmp_path) == ["block_records.npy"]


def test_the_hostile_files_do_act_when_unpickled_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(hostile()["a call in an entry"])
    assert os.listdir(tmp_path) == ["MARKER"]


def test_a_memo_entry_of_a_great_number_takes_no_memory(tmp_path: Path) -> None:
    """Python's unpickler in C would set 268 MB aside for all entries up to this one."""
    path = tmp_path / "block_records.npy"
    path.write_bytes(b"\x80\x03Nr" + struct.pack("<I", 0xFFFFFF) + b".")
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match="no array"):
            read_block_records(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_nothing_leaks_into_the_stand_ins(tmp_path: Path) -> None:
    """A pickle that sets attributes on an admitted name must not change how the next file is read."""
    bad = tmp_path / "bad.npy"
    for name in (b"numpy\nndarray", b"numpy\ndtype", b"numpy.core.multiarray\n_reconstruct"):
        for state in (b"(N}S'state'\nI1\nst", b"}S'state'\nI1\ns"):
            bad.write_bytes(b"c" + name + b"\n" + state + b"b.")
            with pytest.raises(CorpusError):
                read_block_records(bad)
    write_block_records(tmp_path / "good.npy", RECORDS)
    assert read_block_records(tmp_path / "good.npy") == RECORDS


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 255))
def test_any_changed_byte_gives_records_or_an_error(place: int, value: int, other: int) -> None:
    data = bytearray(pickle.dumps(object_array([b"one", b"two"]), protocol=3))
    data[place % len(data)] = value
    data[(place * 7) % len(data)] = other
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "r.npy")
        path.write_bytes(bytes(data))
        try:
            records = read_block_records(path)
        except CorpusError:
            return
        assert all(type(record) is bytes for record in records)

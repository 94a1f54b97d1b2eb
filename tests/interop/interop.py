"""Codes of this library's quantizers for the same rows that other implementations get."""

import os
import pathlib
import subprocess
import tempfile

import numpy

ENCODE_ROWS = os.environ["ROTORQUANT_ENCODE_ROWS"]


def encode(spec, bits, rows, seed=1):
    """code bytes [n * bytes], decoded rows [n, d] and rotated rows [n, d] (None without a rotation)."""
    rows = numpy.ascontiguousarray(rows, dtype=numpy.float32)
    count, dim = rows.shape
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows.tofile(folder / "rows.f32")
        subprocess.run([ENCODE_ROWS, spec, str(bits), str(seed), str(dim), name], check=True)
        codes = numpy.fromfile(folder / "codes.u8", dtype=numpy.uint8)
        decoded = numpy.fromfile(folder / "decoded.f32", dtype=numpy.float32).reshape(count, dim)
        path = folder / "rotated.f32"
        rotated = numpy.fromfile(path, dtype=numpy.float32).reshape(count, -1) if path.exists() else None
    return codes, decoded, rotated


def indices(codes, count, dim, bits):
    """Bit planes at the start of `codes` -> indices [count, dim]; dim a multiple of 8."""
    planes = codes[: count * bits * dim // 8].reshape(count, bits, dim // 8)
    ones = numpy.unpackbits(planes, axis=2, bitorder="little").astype(numpy.int64)
    return (ones << numpy.arange(bits)[None, :, None]).sum(axis=1)


def key_like_rows(count, dim, seed):
    """Rows of uneven channels and lengths, with exact zeros, ties and rows of zeros among them."""
    generator = numpy.random.default_rng(seed)
    rows = generator.standard_normal((count, dim)).astype(numpy.float32)
    rows *= numpy.exp(generator.standard_normal(dim)).astype(numpy.float32)
    rows *= numpy.exp(2 * generator.standard_normal((count, 1))).astype(numpy.float32)
    rows[0] = 0.0
    rows[1, ::2] = 0.0
    rows[2] = numpy.where(numpy.arange(dim) % 2 == 0, 1.5, -1.5)
    rows[3, : dim // 2] = 0.0
    return rows

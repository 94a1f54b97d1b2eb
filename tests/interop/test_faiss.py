"""turboquant, EDEN's scales and rabitq against the implementations of FAISS, on the rows as this library rotates them."""

import unittest

import faiss
import numpy
from interop import encode, indices, key_like_rows

COUNT = 2000
# Ours are stored in 16 bits, of 11 digits.
HALF_ROUNDING = 2**-10


def unpack(codes, dim, bits):
    """FAISS's bit strings, least significant bit first -> [n, dim]."""
    ones = numpy.unpackbits(codes, axis=1, bitorder="little")[:, : dim * bits].reshape(len(codes), dim, bits)
    return (ones.astype(numpy.int64) << numpy.arange(bits)).sum(axis=2)


def scales(codes, count):
    return codes[-2 * count :].view(numpy.float16).astype(numpy.float64)


def directions(dim):
    """Rows whose scales 16 bits hold whatever the grid."""
    rows = key_like_rows(COUNT, dim, seed=dim)[4:]
    norms = numpy.linalg.norm(rows, axis=1)
    return rows[(norms > 0.1) & (norms < 5000)]


class TurboQuant(unittest.TestCase):
    def test_indices_are_those_of_tqmse(self):
        for dim in (64, 128):
            rows = directions(dim)
            for bits in (1, 2, 3, 4):
                codes, _, rotated = encode("turboquant", bits, rows)
                unit = rotated / numpy.linalg.norm(rotated, axis=1, keepdims=True)
                theirs = faiss.ScalarQuantizer(dim, getattr(faiss.ScalarQuantizer, f"QT_{bits}bit_tqmse"))
                theirs.train(unit)
                ours = indices(codes, len(rows), dim, bits)
                other = unpack(theirs.compute_codes(unit), dim, bits)
                with self.subTest(dim=dim, bits=bits):
                    # Rounding of their table, in float32, moves a boundary by 1e-6; a coordinate in that gap may differ.
                    self.assertLess((ours != other).mean(), 2e-5)
                    self.assertLessEqual(numpy.abs(ours - other).max(), 1)


class Eden(unittest.TestCase):
    def test_codes_and_scales_are_those_of_faiss(self):
        types = {"eden-biased": faiss.EDENScaleType_BIASED, "eden-unbiased": faiss.EDENScaleType_UNBIASED}
        for dim in (64, 128):
            rows = directions(dim)
            for bits in (1, 2, 3, 4):
                for name, kind in types.items():
                    with self.subTest(dim=dim, bits=bits, scale=name):
                        codes, _, rotated = encode(f"turboquant:scale={name}", bits, rows)
                        index = faiss.IndexEDEN(dim, faiss.METRIC_INNER_PRODUCT, bits, kind)
                        index.train(numpy.concatenate([rotated, -rotated]))  # a centroid of zero
                        stored = index.sa_encode(rotated)
                        packed = dim * bits // 8
                        same = indices(codes, len(rows), dim, bits) == unpack(stored[:, :packed], dim, bits)
                        self.assertGreater(same.mean(), 1 - 2e-5)
                        # Ours multiplies centroids of N(0, 1/d), theirs of N(0, 1).
                        theirs = numpy.ascontiguousarray(stored[:, packed:]).view(numpy.float32)[:, 1]
                        ours = scales(codes, len(rows)) / numpy.sqrt(dim)
                        whole = same.all(axis=1)
                        numpy.testing.assert_allclose(ours[whole], theirs[whole], rtol=HALF_ROUNDING)


class Rabitq(unittest.TestCase):
    def test_codes_and_factors_are_those_of_faiss(self):
        for dim in (64, 128):
            rows = directions(dim)
            for bits in (1, 2, 3, 4, 6, 8):
                with self.subTest(dim=dim, bits=bits):
                    codes, _, rotated = encode("rabitq", bits, rows)
                    ours = indices(codes, len(rows), dim, bits)
                    index = faiss.IndexRaBitQ(dim, faiss.METRIC_INNER_PRODUCT, bits)
                    index.train(rotated)
                    faiss.copy_array_to_vector(numpy.zeros(dim, numpy.float32), index.center)
                    stored = index.sa_encode(rotated)
                    signs = unpack(stored, dim, 1)
                    numpy.testing.assert_array_equal(ours >> (bits - 1), signs)
                    if bits == 1:
                        continue
                    # Signs, three factors of the 1-bit estimate, the other bits, two factors of the estimate by all bits.
                    begin = dim // 8 + 12
                    theirs = (signs << (bits - 1)) + unpack(stored[:, begin:-8], dim, bits - 1)
                    cosine, their_cosine = (self.cosine(levels, rotated, bits) for levels in (ours, theirs))
                    # Theirs begins its search for the scale at a bound that often lies above the best one, and updates the
                    # cosine by an approximation: ours, which tries every scale, is never worse.
                    self.assertTrue((cosine >= their_cosine - 1e-9).all())
                    self.assertLess((cosine - their_cosine).mean(), 0.01)
                    factor = numpy.abs(numpy.ascontiguousarray(stored[:, -8:]).view(numpy.float32)[:, 1])
                    numpy.testing.assert_allclose(self.factor(theirs, rotated, bits), factor, rtol=1e-5)
                    unit = 2 / (((1 << bits) - 1) * numpy.sqrt(dim))  # a step of our grid
                    numpy.testing.assert_allclose(
                        scales(codes, len(rows)) * unit, self.factor(ours, rotated, bits), rtol=HALF_ROUNDING)

    @staticmethod
    def grid(levels, bits):
        return levels - ((1 << bits) - 1) / 2

    def cosine(self, levels, rotated, bits):
        grid, rotated = self.grid(levels, bits), rotated.astype(numpy.float64)
        return (grid * rotated).sum(1) / numpy.sqrt((grid**2).sum(1) * (rotated**2).sum(1))

    def factor(self, levels, rotated, bits):
        """The factor that makes the inner product with the grid vector unbiased."""
        rotated = rotated.astype(numpy.float64)
        return (rotated**2).sum(1) / (self.grid(levels, bits) * rotated).sum(1)


if __name__ == "__main__":
    unittest.main()

"""q4_0 and q8_0 are the bytes that the gguf package writes; fp8-e4m3 is the float8 type of ml_dtypes."""

import unittest

import gguf
import ml_dtypes
import numpy
from interop import encode, key_like_rows


class GgmlBlocks(unittest.TestCase):
    def test_codes_are_byte_for_byte_those_of_gguf(self):
        for dim in (32, 64, 96, 128, 256):
            rows = key_like_rows(4000, dim, seed=dim)
            for name, bits, kind in (("q4_0", 4, gguf.GGMLQuantizationType.Q4_0), ("q8_0", 8, gguf.GGMLQuantizationType.Q8_0)):
                with self.subTest(name=name, dim=dim):
                    theirs = gguf.quants.quantize(rows, kind)
                    codes, decoded, _ = encode(name, bits, rows)
                    numpy.testing.assert_array_equal(codes.reshape(theirs.shape), theirs)
                    numpy.testing.assert_array_equal(decoded, gguf.quants.dequantize(theirs, kind))


class Float8(unittest.TestCase):
    def test_codes_are_those_of_ml_dtypes(self):
        halves = numpy.arange(1 << 16, dtype=numpy.uint16).view(numpy.float16).astype(numpy.float32)
        halves = halves[numpy.abs(halves) <= 448.0]  # beyond the greatest value theirs gives NaN, ours saturates
        self.assertGreater(len(halves), 40000)
        generator = numpy.random.default_rng(0)
        wide = (generator.standard_normal(100000) * numpy.exp2(generator.uniform(-14, 7, 100000))).astype(numpy.float32)
        wide = wide[numpy.abs(wide) <= 448.0]
        values = numpy.concatenate([halves, wide])
        values = values[: len(values) // 64 * 64].reshape(-1, 64)
        theirs = values.astype(ml_dtypes.float8_e4m3fn)
        codes, decoded, _ = encode("fp8-e4m3", 8, values)
        numpy.testing.assert_array_equal(codes.reshape(values.shape), theirs.view(numpy.uint8))
        numpy.testing.assert_array_equal(decoded, theirs.astype(numpy.float32))

    def test_what_lies_beyond_the_greatest_value_saturates(self):
        _, decoded, _ = encode("fp8-e4m3", 8, numpy.array([[449.0, -1e6, 464.0, 3e38]]))
        numpy.testing.assert_array_equal(decoded, [[448.0, -448.0, 448.0, 448.0]])


if __name__ == "__main__":
    unittest.main()

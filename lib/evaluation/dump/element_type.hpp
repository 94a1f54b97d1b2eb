#pragma once
// The element types that a dump may store, and their conversion to float32.
//
// float16 and bfloat16 travel through HDF5 as the bits they are and are converted here (core/elements.hpp),
// which is exact and avoids HDF5's generic software conversion. Four encodings of bfloat16 are in use:
//   (a) an HDF5 floating-point type of 16 bits, 8 of exponent and 7 of mantissa, which is also (d) the type
//   that
//       HDF5 2.0 predefines;
//   (b) an opaque type of 2 bytes, which is what h5py makes of ml_dtypes.bfloat16 (tag "" or "NUMPY:<V2");
//   (c) uint16 with the attribute dtype = "bfloat16" on the dataset.
#include <span>
#include <string>

#include "evaluation/dump/hdf5.hpp"

namespace rotorquant::evaluation {

enum class ElementType { float16, float32, float64, bfloat16, bfloat16_opaque, bfloat16_uint16 };

// "float16", "bfloat16 (opaque)", ...
std::string element_type_name(ElementType type);

// What `dataset` at `path` stores; an Error (without a path) for every other type, a bare uint16 among them.
ElementType element_type(const hdf5::File& file, const hdf5::Dataset& dataset, const std::string& path);

// Reads the elements that `selection` selects, in the file's order, as float32; values.size() elements. A
// float64 value beyond float32's range becomes an infinity. Error (without a path) when the file cannot be
// read.
void read_elements(const hdf5::Dataset& dataset, ElementType type, const hdf5::Dataspace& selection,
                   std::span<float> values);

// The types that the writer makes: float16, float32, bfloat16 in form (a).
hdf5::Datatype stored_type(ElementType type);
// Writes `values` to the elements that `selection` selects, rounded to nearest even; a finite value that
// `type` cannot hold becomes an infinity.
void write_elements(const hdf5::Dataset& dataset, ElementType type, const hdf5::Dataspace& selection,
                    std::span<const float> values);
// `value` after a round trip through `type`.
float rounded(ElementType type, float value);

}  // namespace rotorquant::evaluation

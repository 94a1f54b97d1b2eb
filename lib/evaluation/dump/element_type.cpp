#include "evaluation/dump/element_type.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr const char* valid_types = "float16, float32, float64 and bfloat16";

// The fields of an IEEE-like binary floating-point type, in bits.
struct FloatFormat {
  std::size_t size_bytes, sign, exponent_at, exponent_bits, mantissa_at, mantissa_bits, bias;
  bool operator==(const FloatFormat&) const = default;
};
constexpr FloatFormat half_format{2, 15, 10, 5, 0, 10, 15};
constexpr FloatFormat bfloat16_format{2, 15, 7, 8, 0, 7, 127};
constexpr FloatFormat single_format{4, 31, 23, 8, 0, 23, 127};
constexpr FloatFormat double_format{8, 63, 52, 11, 0, 52, 1023};

FloatFormat format_of(const hdf5::Datatype& type) {
  FloatFormat format{};
  format.size_bytes = H5Tget_size(type.get());
  H5Tget_fields(type.get(), &format.sign, &format.exponent_at, &format.exponent_bits, &format.mantissa_at,
                &format.mantissa_bits);
  format.bias = H5Tget_ebias(type.get());
  return format;
}

hdf5::Datatype native_two_byte_float(const FloatFormat& format) {
  hdf5::Datatype type(H5Tcopy(H5T_NATIVE_FLOAT));
  H5Tset_fields(type.get(), format.sign, format.exponent_at, format.exponent_bits, format.mantissa_at,
                format.mantissa_bits);
  H5Tset_ebias(type.get(), format.bias);
  H5Tset_precision(type.get(), 8 * format.size_bytes);
  H5Tset_size(type.get(), format.size_bytes);
  return type;
}

ElementType float_type(const hdf5::Datatype& type) {
  const FloatFormat format = format_of(type);
  if (H5Tget_norm(type.get()) == H5T_NORM_IMPLIED) {
    if (format == half_format) return ElementType::float16;
    if (format == bfloat16_format) return ElementType::bfloat16;
    if (format == single_format) return ElementType::float32;
    if (format == double_format) return ElementType::float64;
  }
  throw Error(
      fmt::format("is a floating-point type of {} bytes with {} exponent and {} mantissa bits; valid are {}",
                  format.size_bytes, format.exponent_bits, format.mantissa_bits, valid_types));
}

ElementType opaque_type(const hdf5::Datatype& type) {
  char* tag_text = H5Tget_tag(type.get());
  const std::string tag = tag_text == nullptr ? "" : tag_text;
  H5free_memory(tag_text);
  const bool tag_fits =
      tag.empty() || tag == "NUMPY:<V2" || tag == "NUMPY:|V2" || tag.find("bfloat16") != tag.npos;
  if (H5Tget_size(type.get()) == 2 && tag_fits) return ElementType::bfloat16_opaque;
  throw Error(
      fmt::format("is {}; an opaque type is read as bfloat16 when it has 2 bytes and the tag '' or "
                  "'NUMPY:<V2'",
                  hdf5::type_name(type)));
}

// The type in memory whose bytes are the stored bits, so that HDF5 converts at most their order.
hdf5::Datatype memory_type(const hdf5::Dataset& dataset, ElementType type) {
  switch (type) {
    case ElementType::float16:
      return native_two_byte_float(half_format);
    case ElementType::bfloat16:
      return native_two_byte_float(bfloat16_format);
    case ElementType::bfloat16_opaque:
      return hdf5::Datatype(H5Dget_type(dataset.get()));
    case ElementType::bfloat16_uint16:
      return hdf5::Datatype(H5Tcopy(H5T_NATIVE_UINT16));
    case ElementType::float32:
      return hdf5::Datatype(H5Tcopy(H5T_NATIVE_FLOAT));
    case ElementType::float64:
      return hdf5::Datatype(H5Tcopy(H5T_NATIVE_DOUBLE));
  }
  throw Error("unknown element type");
}

// Memory of a selected box of `count` elements, in the box's own shape: HDF5 maps chunks of equal shapes as a
// whole, and others element by element.
hdf5::Dataspace box_of(const hdf5::Dataspace& selection, std::size_t count) {
  std::vector<hsize_t> first(static_cast<std::size_t>(H5Sget_simple_extent_ndims(selection.get())));
  std::vector<hsize_t> last(first.size());
  const hssize_t selected = H5Sget_select_npoints(selection.get());
  if (selected < 0 || static_cast<std::size_t>(selected) != count ||
      H5Sget_select_bounds(selection.get(), first.data(), last.data()) < 0) {
    throw Error(fmt::format("selection of {} elements for {} in memory", selected, count));
  }
  for (std::size_t i = 0; i < first.size(); ++i) last[i] += 1 - first[i];
  return hdf5::Dataspace(H5Screate_simple(static_cast<int>(last.size()), last.data(), nullptr));
}

template <typename Element>
void read_raw(const hdf5::Dataset& dataset, ElementType type, const hdf5::Dataspace& selection,
              std::span<Element> values) {
  const hdf5::Dataspace memory_space = box_of(selection, values.size());
  const hdf5::Datatype in_memory = memory_type(dataset, type);
  if (H5Dread(dataset.get(), in_memory.get(), memory_space.get(), selection.get(), H5P_DEFAULT,
              values.data()) < 0) {
    throw Error("cannot be read: damaged file" + hdf5::last_error());
  }
}

}  // namespace

std::string element_type_name(ElementType type) {
  switch (type) {
    case ElementType::float16:
      return "float16";
    case ElementType::float32:
      return "float32";
    case ElementType::float64:
      return "float64";
    case ElementType::bfloat16:
      return "bfloat16";
    case ElementType::bfloat16_opaque:
      return "bfloat16 (opaque)";
    case ElementType::bfloat16_uint16:
      return "bfloat16 (uint16)";
  }
  throw Error("unknown element type");
}

ElementType element_type(const hdf5::File& file, const hdf5::Dataset& dataset, const std::string& path) {
  const hdf5::Session session;
  const hdf5::Datatype type(H5Dget_type(dataset.get()));
  switch (H5Tget_class(type.get())) {
    case H5T_FLOAT:
      return float_type(type);
    case H5T_OPAQUE:
      return opaque_type(type);
    case H5T_INTEGER:
      if (H5Tget_size(type.get()) == 2 && H5Tget_sign(type.get()) == H5T_SGN_NONE) {
        const auto dtype = hdf5::string_attribute(file, path, "dtype");
        if (dtype == "bfloat16") return ElementType::bfloat16_uint16;
        throw Error(
            dtype ? fmt::format("is uint16 with the attribute dtype = '{}'; valid is 'bfloat16'", *dtype)
                  : "is a bare uint16, whose meaning is ambiguous; bfloat16 bits need the attribute "
                    "dtype = 'bfloat16' on the dataset");
      }
      [[fallthrough]];
    default:
      throw Error(fmt::format("is of type {}; valid are {}", hdf5::type_name(type), valid_types));
  }
}

void read_elements(const hdf5::Dataset& dataset, ElementType type, const hdf5::Dataspace& selection,
                   std::span<float> values) {
  const hdf5::Session session;
  if (type == ElementType::float32) {
    read_raw(dataset, type, selection, values);
  } else if (type == ElementType::float64) {
    std::vector<double> wide(values.size());
    read_raw(dataset, type, selection, std::span(wide));
    std::transform(wide.begin(), wide.end(), values.begin(), [](double x) { return static_cast<float>(x); });
  } else {
    std::vector<std::uint16_t> bits(values.size());
    read_raw(dataset, type, selection, std::span(bits));
    load_elements(
        type == ElementType::float16 ? rotorquant::ElementType::float16 : rotorquant::ElementType::bfloat16,
        bits.data(), std::ssize(bits), values.data());
  }
}

hdf5::Datatype stored_type(ElementType type) {
  const hdf5::Session session;
  switch (type) {
    case ElementType::float16:
      return native_two_byte_float(half_format);
    case ElementType::bfloat16:
      return native_two_byte_float(bfloat16_format);
    case ElementType::float32:
      return hdf5::Datatype(H5Tcopy(H5T_NATIVE_FLOAT));
    default:
      throw UsageError(
          fmt::format("dumps are written as float16, float32 or bfloat16, not {}", element_type_name(type)));
  }
}

void write_elements(const hdf5::Dataset& dataset, ElementType type, const hdf5::Dataspace& selection,
                    std::span<const float> values) {
  const hdf5::Session session;
  std::vector<std::uint16_t> bits;
  const void* buffer = values.data();
  if (type != ElementType::float32) {
    bits.resize(values.size());
    std::transform(values.begin(), values.end(), bits.begin(),
                   type == ElementType::float16 ? float_to_half : float_to_bfloat16);
    buffer = bits.data();
  }
  const hdf5::Dataspace memory_space = box_of(selection, values.size());
  const hdf5::Datatype type_in_memory = stored_type(type);
  if (H5Dwrite(dataset.get(), type_in_memory.get(), memory_space.get(), selection.get(), H5P_DEFAULT,
               buffer) < 0) {
    throw Error("cannot be written" + hdf5::last_error());
  }
}

float rounded(ElementType type, float value) {
  if (type == ElementType::float16) return half_to_float(float_to_half(value));
  if (type == ElementType::bfloat16) return bfloat16_to_float(float_to_bfloat16(value));
  return value;
}

}  // namespace rotorquant::evaluation

#include "rotorquant/codes/code_layout.hpp"

#include "rotorquant/codes/bit_planes.hpp"

namespace rotorquant {

const char* field_kind_name(FieldKind kind) {
  switch (kind) {
    case FieldKind::index:
      return "index";
    case FieldKind::norm:
      return "norm";
    case FieldKind::sign:
      return "sign";
    case FieldKind::residual_norm:
      return "residual_norm";
    case FieldKind::scale:
      return "scale";
    case FieldKind::zero:
      return "zero";
    case FieldKind::centroid:
      return "centroid";
    case FieldKind::padding:
      return "padding";
  }
  return "";
}

std::int64_t CodeArray::bytes_per_vector() const {
  std::int64_t bits = 0;
  for (const CodeField& field : fields) bits += field.bits;
  return bits / 8;
}

std::int64_t CodeLayout::bytes_per_vector() const {
  std::int64_t bytes = 0;
  for (const CodeArray& array : arrays) bytes += array.bytes_per_vector();
  return bytes;
}

double CodeLayout::bits_per_value() const {
  return 8.0 * static_cast<double>(bytes_per_vector()) / static_cast<double>(dim);
}

std::int64_t CodeLayout::bits_of(FieldKind kind) const {
  std::int64_t bits = 0;
  for (const CodeArray& array : arrays) {
    for (const CodeField& field : array.fields) bits += field.kind == kind ? field.bits : 0;
  }
  return bits;
}

CodeArray plane_array(const std::string& name, FieldKind kind, std::int64_t coordinates, std::int64_t bits) {
  CodeArray array{name, {{kind, bits * coordinates}}};
  const std::int64_t unused = bits * (8 * plane_bytes(coordinates) - coordinates);
  if (unused > 0) array.fields.push_back({FieldKind::padding, unused});
  return array;
}

CodeArray number_array(const std::string& name, FieldKind kind, std::int64_t bits) {
  return {name, {{kind, bits}}};
}

}  // namespace rotorquant

#pragma once
// What a quantizer stores for each vector, bit by bit. Sizes are computed from this layout, never claimed.
//
// Codes are a structure of arrays: each CodeArray holds `bytes_per_vector` bytes for every vector, vector
// after vector (such as the bit planes in one array and the norms in another). Every bit of every array
// belongs to one CodeField.
#include <cstdint>
#include <string>
#include <vector>

namespace rotorquant {

// What stored bits are for; reports list the bits of each kind apart.
enum class FieldKind { index, norm, sign, residual_norm, scale, zero, centroid, padding };

const char* field_kind_name(FieldKind kind);

struct CodeField {
  FieldKind kind;
  std::int64_t bits;  // per vector
};

struct CodeArray {
  std::string name;
  std::vector<CodeField> fields;  // their bits add up to 8 * bytes_per_vector()

  std::int64_t bytes_per_vector() const;
};

struct CodeLayout {
  std::int64_t dim = 0;  // coordinates of a decoded vector
  std::vector<CodeArray> arrays;

  std::int64_t bytes_per_vector() const;
  double bits_per_value() const;  // 8 * bytes_per_vector() / dim
  // Bits per vector of all fields of this kind.
  std::int64_t bits_of(FieldKind kind) const;
};

// An array of `bits` bit planes over `coordinates` coordinates, the unused bits of each plane charged as
// padding.
CodeArray plane_array(const std::string& name, FieldKind kind, std::int64_t coordinates, std::int64_t bits);
// An array of one number of `bits` bits (a multiple of 8) a vector.
CodeArray number_array(const std::string& name, FieldKind kind, std::int64_t bits);

}  // namespace rotorquant

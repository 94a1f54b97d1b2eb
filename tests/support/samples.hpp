#pragma once
// Matrices and codes that tests are made of.
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/codes.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/quantizers/quantizer.hpp"
#include "rotorquant/quantizers/registry.hpp"

namespace rotorquant::test {

// Owning row-major [rows, cols].
struct Matrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;

  Matrix() = default;
  Matrix(std::int64_t rows_, std::int64_t cols_)
      : rows(rows_), cols(cols_), values(static_cast<std::size_t>(rows_ * cols_)) {}

  float* row(std::int64_t r) { return values.data() + r * cols; }
  const float* row(std::int64_t r) const { return values.data() + r * cols; }
  HostView<float> view() { return {values.data(), rows, cols}; }
  HostView<const float> view() const { return {values.data(), rows, cols}; }
};

inline double norm(const float* x, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return std::sqrt(sum);
}

inline double inner_product(const float* x, const float* y, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  return sum;
}

// ||x - y||.
inline double distance(const float* x, const float* y, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double gap = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    sum += gap * gap;
  }
  return std::sqrt(sum);
}

// Independent N(0, 1) entries.
inline Matrix normal_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Matrix matrix(rows, cols);
  RandomStream stream(seed, Purpose::synthetic);
  for (float& value : matrix.values) value = static_cast<float>(stream.normal());
  return matrix;
}

// Rows uniform on the unit sphere.
inline Matrix unit_vectors(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Matrix matrix = normal_matrix(rows, cols, seed);
  for (std::int64_t r = 0; r < rows; ++r) {
    const double length = norm(matrix.row(r), cols);
    for (std::int64_t c = 0; c < cols; ++c) {
      matrix.row(r)[c] = static_cast<float>(static_cast<double>(matrix.row(r)[c]) / length);
    }
  }
  return matrix;
}

inline std::shared_ptr<const Quantizer> build(const std::string& spec, int bits, std::int64_t dim,
                                              std::uint64_t seed = 1) {
  return make_quantizer(QuantizerSpec::parse(spec), {bits, seed, dim});
}

inline CodeBuffer encode(const Quantizer& quantizer, const Matrix& x, const Context& context = {}) {
  CodeBuffer codes(quantizer.layout(), x.rows);
  quantizer.encode(context, x.view(), codes.view());
  return codes;
}

inline Matrix decode(const Quantizer& quantizer, const CodeBuffer& codes, const Context& context = {}) {
  Matrix x(codes.size(), quantizer.dim());
  quantizer.decode(context, codes.view(), x.view());
  return x;
}

// All bytes of all arrays, array after array.
inline std::vector<std::uint8_t> bytes_of(const Quantizer& quantizer, const CodeBuffer& codes) {
  std::vector<std::uint8_t> bytes;
  const ConstCodes<Space::cpu> view = codes.view();
  const std::vector<CodeArray>& arrays = quantizer.layout().arrays;
  for (std::size_t a = 0; a < arrays.size(); ++a) {
    bytes.insert(bytes.end(), view.arrays[a], view.arrays[a] + view.count * arrays[a].bytes_per_vector());
  }
  return bytes;
}

// Indices [codes.size(), coordinates] of the bit planes in array `array`.
inline std::vector<std::uint8_t> indices_of(const CodeBuffer& codes, std::size_t array,
                                            std::int64_t coordinates, int bits) {
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(codes.size() * coordinates));
  for (std::int64_t r = 0; r < codes.size(); ++r) {
    unpack_planes(codes.view().arrays[array] + r * bits * plane_bytes(coordinates), coordinates, bits,
                  indices.data() + r * coordinates);
  }
  return indices;
}

}  // namespace rotorquant::test

#include "rotorquant/rotations/cascade.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "rotorquant/clifford/rotor.hpp"
#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/rotations/cascade_shuffle.hpp"
#include "rotorquant/rotations/rotation_kernels.hpp"

namespace rotorquant {
namespace {

// Vectors that go through the layers coordinate by coordinate.
constexpr int vector_lanes = static_cast<int>(column_lanes);
constexpr float two_thirds = 2.0F / 3.0F;

// Factors that change nothing.
constexpr std::array<float, vector_lanes> ones = [] {
  std::array<float, vector_lanes> values{};
  values.fill(1.0F);
  return values;
}();

// Asks for a share of some memory, that of `step` of `steps`, into the second-level cache: so many lines in
// one go would hold up the loads that come next.
void ask_for_share(const std::uint8_t* begin, std::int64_t bytes, std::size_t step, std::size_t steps) {
  constexpr std::int64_t line = 64;
  const auto place = [&](std::size_t i) {
    return bytes / line * static_cast<std::int64_t>(i) / static_cast<std::int64_t>(steps) * line;
  };
  for (std::int64_t i = place(step); i < place(step + 1); i += line) __builtin_prefetch(begin + i, 0, 2);
}

// The signs of the four flat rotors: 1, i, j and k flip none or two coordinates before the half-turn.
constexpr float flat_signs[4][3] = {{1, 1, 1}, {1, -1, -1}, {-1, 1, -1}, {-1, -1, 1}};

const ColumnKernels* column_kernels(Isa isa) {
#if defined(__x86_64__)
  static constexpr ColumnKernels avx512 = {to_columns_avx512, unit_rows_to_columns_avx512,
                                           to_rows_avx512,    columns_to_planes_avx512,
                                           nullptr,           flat_layer_avx512};
  static constexpr ColumnKernels avx2 = {to_columns_avx2,        unit_rows_to_columns_avx2, to_rows_avx2,
                                         columns_to_planes_avx2, planes_to_columns_avx2,    flat_layer_avx2};
  if (isa == Isa::avx512) return &avx512;
  if (isa == Isa::avx2) return &avx2;
#endif
  (void)isa;
  return nullptr;
}

}  // namespace

std::int64_t default_cascade_layers(std::int64_t dim) {
  std::int64_t layers = 1;
  for (std::int64_t reach = 1; reach < dim; reach *= 3) ++layers;
  return layers;
}

CascadeRotation::CascadeRotation(std::int64_t dim, std::int64_t layers, CascadeRotors rotors,
                                 std::uint64_t seed, Isa isa)
    : dim_(dim), rotors_(rotors), kernels_(column_kernels(isa)) {
  if (dim < 1 || layers < 1) {
    throw Error("cascade rotation: dim " + std::to_string(dim) + ", layers " + std::to_string(layers) +
                "; valid: 1 or more of each");
  }
  std::vector<std::int32_t> order(static_cast<std::size_t>(dim));
  std::iota(order.begin(), order.end(), 0);
  const std::vector<std::int32_t> shuffle = cascade_shuffle(dim, layers);
  std::int64_t rotor_count = 0, plane_count = 0;
  for (std::int64_t l = 0; l < layers; ++l) {
    RandomStream stream(seed, Purpose::cascade, static_cast<std::uint32_t>(l));
    Layer& layer = layers_.emplace_back();
    std::size_t i = 0;
    for (; i + 3 <= order.size(); i += 3) {
      Triple triple{order[i], order[i + 1], order[i + 2], {}, {}};
      if (rotors == CascadeRotors::flat) {
        const auto choice = static_cast<std::size_t>(stream.integer(4));
        for (std::size_t c = 0; c < 3; ++c) triple.signs[c] = flat_signs[choice][c];
      } else {
        double quaternion[4];
        double norm_sq = 0.0;
        for (double& component : quaternion) {
          component = stream.normal();
          norm_sq += component * component;
        }
        const double norm = std::sqrt(norm_sq);
        const Matrix3 matrix = rotation_matrix(
            {quaternion[0] / norm, quaternion[1] / norm, quaternion[2] / norm, quaternion[3] / norm});
        for (std::size_t c = 0; c < 9; ++c) triple.matrix[c] = static_cast<float>(matrix[c]);
      }
      layer.triples.push_back(triple);
    }
    if (order.size() - i == 2) {
      const double turn = rotors == CascadeRotors::flat
                              ? (2.0 * static_cast<double>(stream.integer(4)) + 1.0) / 8.0
                              : stream.uniform();
      const double angle = 2.0 * std::numbers::pi * turn;
      layer.planes.push_back(
          {order[i], order[i + 1], static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))});
    }
    if (rotors == CascadeRotors::flat) {
      layer.flat = flat_layer(layer.triples);
      for (std::size_t left = i; left < order.size(); ++left)
        layer.flat.left.push_back(vector_lanes * order[left]);
      if (!layer.planes.empty()) {
        layer.flat.plane = true;
        layer.flat.cosine = layer.planes.front().cosine;
        layer.flat.sine = layer.planes.front().sine;
      }
    }
    rotor_count += static_cast<std::int64_t>(layer.triples.size());
    plane_count += static_cast<std::int64_t>(layer.planes.size());
    std::vector<std::int32_t> next;
    for (const std::int32_t place : shuffle) next.push_back(order[static_cast<std::size_t>(place)]);
    order = std::move(next);
  }
  stored_floats_ = rotors == CascadeRotors::flat ? (2 * (rotor_count + plane_count) + 31) / 32
                                                 : 3 * rotor_count + plane_count;
}

FlatLayer CascadeRotation::flat_layer(const std::vector<Triple>& triples) {
  FlatLayer layer;
  for (std::size_t kind = 0; kind < layer.counts.size(); ++kind) {
    for (const Triple& triple : triples) {
      if (!std::equal(triple.signs, triple.signs + 3, flat_signs[kind])) continue;
      ++layer.counts[kind];
      for (const std::int32_t coordinate : {triple.a, triple.b, triple.c})
        layer.places.push_back(vector_lanes * coordinate);
    }
  }
  return layer;
}

// A layer's triples on a block [dim, lanes]: `lanes` vectors, coordinate by coordinate.
template <int lanes>
void CascadeRotation::turn_triples(const Layer& layer, bool transpose, float* block) const {
  for (const Triple& triple : layer.triples) {
    float* a = block + triple.a * lanes;
    float* b = block + triple.b * lanes;
    float* c = block + triple.c * lanes;
    if (rotors_ == CascadeRotors::flat) {
      const float* s = triple.signs;
      // The half-turn is symmetric and its own inverse, so that the transpose flips the signs after it.
      const float before[3] = {transpose ? 1.0F : s[0], transpose ? 1.0F : s[1], transpose ? 1.0F : s[2]};
      const float after[3] = {transpose ? s[0] : 1.0F, transpose ? s[1] : 1.0F, transpose ? s[2] : 1.0F};
      for (int v = 0; v < lanes; ++v) {
        const float x = before[0] * a[v], y = before[1] * b[v], z = before[2] * c[v];
        const float mean = two_thirds * ((x + y) + z);
        a[v] = after[0] * (mean - x);
        b[v] = after[1] * (mean - y);
        c[v] = after[2] * (mean - z);
      }
    } else {
      float m[9];
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j)
          m[3 * i + j] = transpose ? triple.matrix[3 * j + i] : triple.matrix[3 * i + j];
      }
      for (int v = 0; v < lanes; ++v) {
        const float x = a[v], y = b[v], z = c[v];
        a[v] = m[0] * x + m[1] * y + m[2] * z;
        b[v] = m[3] * x + m[4] * y + m[5] * z;
        c[v] = m[6] * x + m[7] * y + m[8] * z;
      }
    }
  }
}

template <int lanes>
void CascadeRotation::turn_planes(const Layer& layer, bool transpose, float* block) {
  for (const Plane& plane : layer.planes) {
    float* a = block + plane.a * lanes;
    float* b = block + plane.b * lanes;
    const float sine = transpose ? -plane.sine : plane.sine;
    for (int v = 0; v < lanes; ++v) {
      const float x = a[v], y = b[v];
      a[v] = plane.cosine * x - sine * y;
      b[v] = sine * x + plane.cosine * y;
    }
  }
}

// All layers on `groups` blocks of columns, column_group_pitch() apart; vectors times their factors [groups,
// vector_lanes] first, unless null. Asks for `ahead` on the way.
void CascadeRotation::run(const float* factors, std::int64_t groups, bool transpose, const Memory& ahead,
                          float* columns) const {
  const bool flat_kernels = kernels_ != nullptr && rotors_ == CascadeRotors::flat;
  const std::int64_t pitch = column_group_pitch(dim_);
  for (std::int64_t g = 0; g < groups && factors != nullptr && !flat_kernels; ++g) {
    for (std::int64_t i = 0; i < dim_ * vector_lanes; ++i)
      columns[g * pitch + i] *= factors[g * vector_lanes + i % vector_lanes];
  }
  for (std::size_t step = 0; step < layers_.size(); ++step) {
    const Layer& layer = layers_[transpose ? layers_.size() - 1 - step : step];
    ask_for_share(ahead.data, ahead.bytes, step, layers_.size());
    if (flat_kernels) {
      kernels_->flat_layer(layer.flat, transpose, step == 0 ? factors : nullptr, groups, pitch, columns);
      continue;
    }
    for (std::int64_t g = 0; g < groups; ++g) {
      turn_triples<vector_lanes>(layer, transpose, columns + g * pitch);
      turn_planes<vector_lanes>(layer, transpose, columns + g * pitch);
    }
  }
}

// The layers on groups of up to vector_lanes rows: load(first row, count, factors, columns) says whether the
// vectors still lack the factors that it gives; then store(first row, count, columns). `in`: the rows'
// memory.
template <typename Load, typename Store>
void CascadeRotation::run_blocks(std::int64_t rows, bool transpose, const Memory& in, const Load& load,
                                 const Store& store) const {
  static thread_local ScratchFloats scratch;
  const std::int64_t pitch = column_group_pitch(dim_);
  float* columns = scratch.reserve(most_column_groups * pitch);
  constexpr std::int64_t together = most_column_groups * vector_lanes;
  for (std::int64_t begin = 0; begin < rows; begin += together) {
    const std::int64_t groups =
        std::min(most_column_groups, (rows - begin + vector_lanes - 1) / vector_lanes);
    const auto each_group = [&](const auto& body) {
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t first = begin + g * vector_lanes;
        body(g, first, std::min<std::int64_t>(vector_lanes, rows - first));
      }
    };
    std::array<float, together> factors{};
    bool unscaled = false;
    each_group([&](std::int64_t g, std::int64_t first, std::int64_t count) {
      unscaled = load(first, count, factors.data() + g * vector_lanes, columns + g * pitch);
    });
    const std::int64_t row_bytes = in.bytes / rows;
    const Memory ahead{in.data + (begin + together) * row_bytes, together * row_bytes};
    run(unscaled ? factors.data() : nullptr, groups, transpose, ahead, columns);
    each_group([&](std::int64_t, std::int64_t first, std::int64_t count) {
      store(first, count, columns + (first - begin) / vector_lanes * pitch);
    });
  }
}

void CascadeRotation::run_rows(HostView<const float> in, HostView<float> out, bool transpose) const {
  run_blocks(
      in.rows, transpose, {},
      [&](std::int64_t begin, std::int64_t count, float*, float* block) {
        if (kernels_ != nullptr) {
          kernels_->to_columns({in.row(begin), ElementType::float32, count, dim_}, ones.data(), block);
          return false;
        }
        for (std::int64_t i = 0; i < dim_ * vector_lanes; ++i) block[i] = 0.0F;
        for (std::int64_t v = 0; v < count; ++v) {
          for (std::int64_t i = 0; i < dim_; ++i) block[i * vector_lanes + v] = in.row(begin + v)[i];
        }
        return false;
      },
      [&](std::int64_t begin, std::int64_t count, const float* block) {
        if (kernels_ != nullptr)
          return kernels_->to_rows(block, ones.data(), {out.row(begin), ElementType::float32, count, dim_});
        for (std::int64_t v = 0; v < count; ++v) {
          for (std::int64_t i = 0; i < dim_; ++i) out.row(begin + v)[i] = block[i * vector_lanes + v];
        }
      });
}

void CascadeRotation::apply(HostView<const float> x, HostView<float> y) const {
  run_rows(x, y, false);
}

void CascadeRotation::apply_transpose(HostView<const float> y, HostView<float> x) const {
  run_rows(y, x, true);
}

void CascadeRotation::apply_scaled(const ConstHostTensor& x, const float* factors, HostView<float> y) const {
  if (kernels_ == nullptr) return Rotation::apply_scaled(x, factors, y);
  run_blocks(
      x.rows, false, {},
      [&](std::int64_t begin, std::int64_t count, float*, float* block) {
        kernels_->to_columns(x.row_range(begin, count), factors + begin, block);
        return false;
      },
      [&](std::int64_t begin, std::int64_t count, const float* block) {
        kernels_->to_rows(block, ones.data(), {y.row(begin), ElementType::float32, count, dim_});
      });
}

void CascadeRotation::apply_transpose_scaled(HostView<const float> y, const float* factors, bool stream,
                                             const HostTensor& x) const {
  if (kernels_ == nullptr) return Rotation::apply_transpose_scaled(y, factors, stream, x);
  run_blocks(
      y.rows, true, {},
      [&](std::int64_t begin, std::int64_t count, float*, float* block) {
        kernels_->to_columns({y.row(begin), ElementType::float32, count, dim_}, ones.data(), block);
        return false;
      },
      [&](std::int64_t begin, std::int64_t count, const float* block) {
        kernels_->to_rows(block, factors + begin, x.row_range(begin, count));
      });
}

bool CascadeRotation::unit_rows_to_planes(const ConstHostTensor& x, float* norms,
                                          const PlaneCodebook& codebook, std::uint8_t* planes) const {
  if (kernels_ == nullptr) return Rotation::unit_rows_to_planes(x, norms, codebook, planes);
  const std::int64_t code_bytes = codebook.bits * plane_bytes(dim_);
  run_blocks(
      x.rows, false, {static_cast<const std::uint8_t*>(x.data), x.rows * x.cols * element_bytes(x.type)},
      [&](std::int64_t begin, std::int64_t count, float* factors, float* block) {
        kernels_->unit_rows_to_columns(x.row_range(begin, count), norms + begin, factors, block);
        return true;
      },
      [&](std::int64_t begin, std::int64_t count, const float* block) {
        kernels_->to_planes(block, count, dim_, codebook, planes + begin * code_bytes);
      });
  return true;
}

bool CascadeRotation::apply_transpose_of_planes(const std::uint8_t* planes, const PlaneCodebook& codebook,
                                                const float* factors, bool stream,
                                                const HostTensor& x) const {
  if (kernels_ == nullptr || kernels_->from_planes == nullptr)
    return Rotation::apply_transpose_of_planes(planes, codebook, factors, stream, x);
  const std::int64_t code_bytes = codebook.bits * plane_bytes(dim_);
  run_blocks(
      x.rows, true, {planes, x.rows * code_bytes},
      [&](std::int64_t begin, std::int64_t count, float*, float* block) {
        kernels_->from_planes(planes + begin * code_bytes, count, dim_, codebook, block);
        return false;
      },
      [&](std::int64_t begin, std::int64_t count, const float* block) {
        kernels_->to_rows(block, factors + begin, x.row_range(begin, count));
      });
  return true;
}

RotationProgram CascadeRotation::program() const {
  RotationProgram program{RotationProgram::Kind::steps, dim_, dim_, {}, {}};
  for (const Layer& layer : layers_) {
    for (const Triple& triple : layer.triples) {
      RotationStep& step = program.steps.emplace_back(RotationStep{{triple.a, triple.b, triple.c, -1}, {}});
      for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
          step.matrix[4 * i + j] = rotors_ == CascadeRotors::flat
                                       ? (two_thirds - (i == j ? 1.0F : 0.0F)) * triple.signs[j]
                                       : triple.matrix[3 * i + j];
        }
      }
    }
    for (const Plane& plane : layer.planes) {
      program.steps.push_back(
          {{plane.a, plane.b, -1, -1}, {plane.cosine, -plane.sine, 0.0F, 0.0F, plane.sine, plane.cosine}});
    }
  }
  return program;
}

}  // namespace rotorquant

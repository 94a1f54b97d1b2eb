#include "evaluation/dump/synth.hpp"

#include <fmt/format.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "evaluation/dump/writer.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

constexpr double outlier_factor = 12.0;
constexpr std::int64_t channels_per_outlier = 32;
constexpr double mean_energy =
    1.5;  // of base energy 1: 60% of the whole, as in most layers of a captured model
constexpr double target_score = 5.0;
constexpr double largest_correlation = 0.9;

// What a stream of random numbers is for; streams are numbered (layer * max_heads + head) * kinds + kind.
enum class Kind : std::uint32_t { key_map, value_map, keys, values, queries };
constexpr std::uint32_t kinds = 8;
constexpr std::int64_t max_heads = 1024;
constexpr std::int64_t max_layers = (std::int64_t{1} << 32) / (kinds * max_heads);
constexpr std::int64_t max_head_dim = 65536;

RandomStream stream(const SynthOptions& options, std::int64_t layer, std::int64_t head, Kind kind) {
  const std::int64_t index = (layer * max_heads + head) * kinds + static_cast<std::int64_t>(kind);
  return {options.seed, Purpose::synthetic, static_cast<std::uint32_t>(index)};
}

Vector gaussian(RandomStream& random, std::int64_t dim) {
  Vector x(dim);
  for (double& coordinate : x) coordinate = random.normal();
  return x;
}

// Uniform on the unit sphere.
Vector direction(RandomStream& random, std::int64_t dim) {
  return gaussian(random, dim).normalized();
}

// How a head shows its base vectors: x -> linear x + mean, and queries -> inverse_transpose q. Empty
// matrices: identity.
struct Appearance {
  Matrix linear;
  Matrix inverse_transpose;
  Vector mean;
};

Appearance diagonal_appearance(const Vector& scale) {
  return {scale.asDiagonal().toDenseMatrix(), scale.cwiseInverse().asDiagonal().toDenseMatrix(), {}};
}

// Q diag(s) Q^T with Haar Q; symmetric, so that its inverse is its inverse transpose.
Appearance rotated_appearance(const Vector& scale, RandomStream& random) {
  const std::int64_t dim = scale.size();
  Matrix normals(dim, dim);
  for (std::int64_t i = 0; i < normals.size(); ++i) normals.data()[i] = random.normal();
  // The signs of Q's columns, which a Haar law would need, cancel in Q diag(s) Q^T.
  const Matrix q = Eigen::HouseholderQR<Matrix>(normals).householderQ();
  return {q * scale.asDiagonal() * q.transpose(), q * scale.cwiseInverse().asDiagonal() * q.transpose(), {}};
}

Appearance draw_appearance(const SynthOptions& options, RandomStream random, bool with_mean) {
  const std::int64_t dim = options.head_dim;
  Vector scale = Vector::Ones(dim);
  switch (options.profile) {
    case SynthProfile::isotropic:
    case SynthProfile::one_hot:
      return {};
    case SynthProfile::outliers: {
      const std::int64_t outliers = std::max<std::int64_t>(1, dim / channels_per_outlier);
      for (std::int64_t chosen = 0; chosen < outliers;) {
        double& channel = scale[random.integer(dim)];
        if (channel != 1.0) continue;
        channel = outlier_factor;
        ++chosen;
      }
      return diagonal_appearance(scale);
    }
    case SynthProfile::anisotropic: {
      for (std::int64_t j = 0; j < dim; ++j) scale[j] = 1.0 / static_cast<double>(j + 1);
      scale = (scale * (static_cast<double>(dim) / scale.sum())).cwiseSqrt();
      Appearance appearance = rotated_appearance(scale, random);
      if (with_mean) appearance.mean = std::sqrt(mean_energy) * direction(random, dim);
      return appearance;
    }
  }
  throw UsageError("unknown profile");
}

// Base vectors [T, d], row by row, so that more tokens only append.
Matrix draw_base(const SynthOptions& options, RandomStream random) {
  const std::int64_t dim = options.head_dim;
  Matrix base(options.tokens, dim);
  for (std::int64_t t = 0; t < options.tokens; ++t) {
    switch (options.profile) {
      case SynthProfile::isotropic:
        base.row(t) = direction(random, dim);
        break;
      case SynthProfile::one_hot:
        base.row(t).setZero();
        base(t, random.integer(dim)) = random.uniform() < 0.5 ? -1.0 : 1.0;
        break;
      default:
        base.row(t) = gaussian(random, dim) / std::sqrt(static_cast<double>(dim));
    }
  }
  return base;
}

Matrix draw_queries(const SynthOptions& options, const Matrix& base_keys, RandomStream random) {
  const std::int64_t dim = options.head_dim;
  const double rho = std::min(largest_correlation, target_score / std::sqrt(static_cast<double>(dim)));
  Matrix queries(options.tokens, dim);
  for (std::int64_t t = 0; t < options.tokens; ++t) {
    const std::int64_t target = random.integer(t + 1);
    const Vector noise = direction(random, dim);
    queries.row(t) =
        rho * base_keys.row(target).normalized() + std::sqrt(1.0 - rho * rho) * noise.transpose();
    if (options.profile == SynthProfile::isotropic || options.profile == SynthProfile::one_hot) {
      queries.row(t).normalize();
    }
  }
  return queries;
}

// Rows of `base` through `linear`, plus `mean`, as float32 [T, d]. Each row by itself: the sum over channels
// has one order, whatever the number of rows.
std::vector<float> show(const Matrix& base, const Matrix& linear, const Vector& mean) {
  std::vector<float> rows(static_cast<std::size_t>(base.size()));
  for (std::int64_t t = 0; t < base.rows(); ++t) {
    Vector x = base.row(t).transpose();
    if (linear.size() > 0) x = linear * x;
    if (mean.size() > 0) x += mean;
    const auto row = rows.begin() + t * base.cols();
    std::transform(x.begin(), x.end(), row, [](double coordinate) { return static_cast<float>(coordinate); });
  }
  return rows;
}

void check_options(const SynthOptions& options) {
  const auto check = [](const char* name, std::int64_t value, std::int64_t most) {
    if (value < 1 || value > most) {
      throw UsageError(fmt::format("{} is {}; valid are 1 to {}", name, value, most));
    }
  };
  check("layers", options.layers, max_layers);
  check("kv-heads", options.kv_heads, max_heads);
  check("tokens", options.tokens, std::int64_t{1} << 32);
  check("head-dim", options.head_dim, max_head_dim);
  if (options.query_heads < 0 || options.query_heads > max_heads ||
      options.query_heads % options.kv_heads != 0) {
    throw UsageError(
        fmt::format("query-heads is {}; valid are multiples of kv-heads = {} up to {}, or 0 for none",
                    options.query_heads, options.kv_heads, max_heads));
  }
}

DumpInfo describe(const SynthOptions& options) {
  DumpInfo info;
  info.model = "synthetic";
  const std::string& profile = synth_profile_names()[static_cast<std::size_t>(options.profile)];
  info.source = fmt::format("rotorquant synth, profile {}, seed {}", profile, options.seed);
  info.num_layers = options.layers;
  info.num_kv_heads = options.kv_heads;
  info.num_query_heads = options.query_heads > 0 ? options.query_heads : options.kv_heads;
  info.head_dim = options.head_dim;
  info.value_dim = options.head_dim;
  info.num_tokens = options.tokens;
  info.num_queries = options.query_heads > 0 ? options.tokens : 0;
  info.softmax_scale = std::sqrt(static_cast<double>(options.head_dim));
  for (std::int64_t layer = 0; layer < options.layers; ++layer) info.layers.push_back(layer);
  return info;
}

}  // namespace

const std::vector<std::string>& synth_profile_names() {
  static const std::vector<std::string> names{"isotropic", "outliers", "anisotropic", "one-hot"};
  return names;
}

SynthProfile parse_synth_profile(const std::string& name) {
  const std::vector<std::string>& names = synth_profile_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    throw UsageError(fmt::format("unknown profile '{}'; valid are {}{}", name, fmt::join(names, ", "),
                                 nearest_hint(name, names)));
  }
  return static_cast<SynthProfile>(found - names.begin());
}

SynthHead synthesize_head(const SynthOptions& options, std::int64_t layer, std::int64_t kv_head) {
  const Appearance key_map = draw_appearance(options, stream(options, layer, kv_head, Kind::key_map), true);
  const Appearance value_map =
      draw_appearance(options, stream(options, layer, kv_head, Kind::value_map), false);
  const Matrix keys = draw_base(options, stream(options, layer, kv_head, Kind::keys));
  SynthHead head;
  head.keys = show(keys, key_map.linear, key_map.mean);
  head.values = show(draw_base(options, stream(options, layer, kv_head, Kind::values)), value_map.linear, {});
  const std::int64_t group = options.query_heads / options.kv_heads;
  for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    const Matrix queries = draw_queries(options, keys, stream(options, layer, h, Kind::queries));
    head.queries.push_back(show(queries, key_map.inverse_transpose, {}));
  }
  return head;
}

void write_synthetic_dump(const std::string& path, const SynthOptions& options, const Context& context) {
  check_options(options);
  DumpWriter writer(path, describe(options), options.type);
  const std::int64_t num_heads = options.layers * options.kv_heads;
  const std::int64_t group = options.query_heads / options.kv_heads;
  for (std::int64_t begin = 0; begin < num_heads; begin += context.threads) {
    std::vector<SynthHead> heads(
        static_cast<std::size_t>(std::min<std::int64_t>(context.threads, num_heads - begin)));
    parallel_for(context, static_cast<std::int64_t>(heads.size()), [&](std::int64_t i) {
      heads[static_cast<std::size_t>(i)] =
          synthesize_head(options, (begin + i) / options.kv_heads, (begin + i) % options.kv_heads);
    });
    for (std::size_t i = 0; i < heads.size(); ++i) {
      const std::int64_t layer = (begin + static_cast<std::int64_t>(i)) / options.kv_heads;
      const std::int64_t kv_head = (begin + static_cast<std::int64_t>(i)) % options.kv_heads;
      const auto view = [&](const std::vector<float>& rows) {
        return HostView<const float>(rows.data(), options.tokens, options.head_dim);
      };
      writer.write_key(layer, kv_head, view(heads[i].keys));
      writer.write_value(layer, kv_head, view(heads[i].values));
      for (std::int64_t q = 0; q < group; ++q) {
        writer.write_query(layer, kv_head * group + q, view(heads[i].queries[static_cast<std::size_t>(q)]));
      }
    }
  }
  writer.finish();
}

}  // namespace rotorquant::evaluation

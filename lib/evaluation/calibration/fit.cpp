#include "evaluation/calibration/fit.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>
#include <utility>

#include "evaluation/calibration/cascade_objective.hpp"
#include "evaluation/calibration/kmeans.hpp"
#include "evaluation/calibration/lbfgs.hpp"
#include "evaluation/calibration/measure_statistics.hpp"
#include "evaluation/calibration/triple_selection.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using namespace calibration;

// Scales below this share of the median do not shrink further: a key almost on its centroid has no direction
// to learn from.
constexpr double scale_floor_share = 0.1;
// Random streams of a head: layer << 16 | KV head << 8 | restart, so that a fit does not depend on which
// other heads are fitted.
constexpr int max_restarts = 255;
std::uint32_t first_stream(const CalibrationInput& input) {
  return static_cast<std::uint32_t>(input.layer << 16 | input.kv_head << 8);
}

// The fewest tokens that determine a covariance of `dim` channels and the centroids at all.
std::int64_t least_tokens(std::int64_t dim, const FitSettings& settings) {
  return settings.sinks + std::max(2 * dim, std::int64_t{4} << settings.centroid_bits);
}

std::string head_name(const CalibrationInput& input) {
  return fmt::format("layer {}, KV head {}", input.layer, input.kv_head);
}

void check_values(const CalibrationInput& input, HostView<const float> values, const char* what) {
  for (std::int64_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values.data[i])) {
      throw Error(fmt::format("calibration: {}: {} has {} at token {}, channel {}; valid: finite values",
                              head_name(input), what, values.data[i], i / values.cols, i % values.cols));
    }
  }
}

void check_input(const CalibrationInput& input, const CalibrationModel& model, const FitSettings& settings) {
  std::int64_t tokens = 0;
  std::int64_t queries = 0;
  for (const CalibrationSequence& sequence : input.sequences) {
    if (sequence.keys.cols != model.head_dim ||
        static_cast<std::int64_t>(sequence.positions.size()) != sequence.keys.rows) {
      throw Error(fmt::format(
          "calibration: {}: keys are {} x {} with {} positions; valid: head_dim {} and a position "
          "for each key",
          head_name(input), sequence.keys.rows, sequence.keys.cols, sequence.positions.size(),
          model.head_dim));
    }
    check_values(input, sequence.keys, "key");
    for (const HostView<const float>& head : sequence.queries) {
      if (head.cols != model.head_dim ||
          static_cast<std::int64_t>(sequence.query_tokens.size()) != head.rows) {
        throw Error(fmt::format(
            "calibration: {}: queries are {} x {} with {} tokens; valid: head_dim {} and a token "
            "for each query",
            head_name(input), head.rows, head.cols, sequence.query_tokens.size(), model.head_dim));
      }
      check_values(input, head, "query");
      for (const std::int64_t token : sequence.query_tokens) {
        if (token < 0 || token >= sequence.keys.rows) {
          throw Error(fmt::format("calibration: {}: a query belongs to token {}; valid: 0..{}",
                                  head_name(input), token, sequence.keys.rows - 1));
        }
        const std::int64_t seen = model.causal ? token + 1 : sequence.keys.rows;
        queries += seen > settings.min_context ? 1 : 0;
      }
    }
    tokens += std::max(sequence.keys.rows - settings.sinks, std::int64_t{0});
  }
  const std::int64_t needed = least_tokens(model.head_dim, settings) - settings.sinks;
  if (tokens < needed) {
    throw Error(fmt::format(
        "calibration: {}: {} tokens after {} sinks; valid: at least {} for head_dim {} and {} "
        "centroids",
        head_name(input), tokens, settings.sinks, needed, model.head_dim, 1 << settings.centroid_bits));
  }
  if (queries == 0) {
    throw Error(
        fmt::format("calibration: {}: no query sees more than {} keys; valid: a dump with queries and longer "
                    "context",
                    head_name(input), settings.min_context));
  }
}

// What does not depend on the bit width.
struct HeadStatistics {
  Matrix centroids;       // [C, d]
  Matrix key_covariance;  // [d, d], trace d, shrunk
  Matrix query_metric;    // [d, d], trace d, regularised
  double median_scale = 1.0;
};

double median_of(Vector values) {
  double* middle = values.data() + values.size() / 2;
  std::nth_element(values.data(), middle, values.data() + values.size());
  return *middle;
}

HeadStatistics measure_head(const CalibrationInput& input, const CalibrationModel& model,
                            const FitSettings& settings) {
  const auto dim = static_cast<Eigen::Index>(model.head_dim);
  const AttentionOptions options{model.softmax_scale, model.causal, settings.min_context, settings.sinks,
                                 settings.metric};
  Eigen::Index tokens = 0;
  for (const CalibrationSequence& sequence : input.sequences) {
    tokens += static_cast<Eigen::Index>(std::max(sequence.keys.rows - settings.sinks, std::int64_t{0}));
  }
  Matrix keys(tokens, dim);
  Vector masses(tokens);
  HeadStatistics result;
  result.query_metric = Matrix::Zero(dim, dim);
  Eigen::Index row = 0;
  for (const CalibrationSequence& sequence : input.sequences) {
    const AttentionStatistics attention = attention_statistics(sequence, model.rope, options);
    result.query_metric += attention.query_metric;
    std::vector<float> unturned(sequence.keys.data, sequence.keys.data + sequence.keys.size());
    RopeTable(model.rope, sequence.positions)
        .remove({unturned.data(), sequence.keys.rows, sequence.keys.cols});
    for (std::int64_t t = settings.sinks; t < sequence.keys.rows; ++t, ++row) {
      keys.row(row) =
          Eigen::Map<const Eigen::RowVectorXf>(unturned.data() + t * sequence.keys.cols, dim).cast<double>();
      masses(row) = attention.key_mass(t);
    }
  }
  Vector weights = masses.unaryExpr([&](double mass) { return std::pow(mass, settings.attention_power); });
  weights = settings.attention_mix / weights.sum() * weights.array() +
            (1.0 - settings.attention_mix) / static_cast<double>(tokens);

  const KMeansSettings clustering{std::int64_t{1} << settings.centroid_bits, settings.kmeans_restarts,
                                  settings.kmeans_iterations, settings.seed, first_stream(input)};
  // Rounded as they will be stored, so that the fit sees what the encoder sees.
  result.centroids = kmeans(keys, weights, clustering).cast<float>().cast<double>();
  const std::vector<Eigen::Index> nearest = nearest_centres(keys, result.centroids);
  for (Eigen::Index t = 0; t < tokens; ++t)
    keys.row(t) -= result.centroids.row(nearest[static_cast<std::size_t>(t)]);

  Vector scales = keys.rowwise().norm() / std::sqrt(static_cast<double>(dim));
  result.median_scale = median_of(scales);
  if (!(result.median_scale > 0.0)) {
    throw Error(fmt::format("calibration: {}: most keys are equal; valid: keys that vary", head_name(input)));
  }
  scales = scales.cwiseMax(scale_floor_share * result.median_scale);
  const Vector covariance_weights = weights.binaryExpr(scales, [&](double weight, double scale) {
    return weight * std::pow(scale, settings.scale_power - 2.0);
  });
  Matrix covariance = keys.transpose() * covariance_weights.asDiagonal() * keys;
  covariance *= static_cast<double>(dim) / covariance.trace();
  result.key_covariance = (1.0 - settings.covariance_shrinkage) * covariance +
                          settings.covariance_shrinkage * Matrix::Identity(dim, dim);

  if (settings.metric == QueryMetric::identity) {
    result.query_metric = Matrix::Identity(dim, dim);
  } else {
    const double trace = result.query_metric.trace();
    if (!(trace > 0.0)) {
      throw Error(fmt::format(
          "calibration: {}: queries are zero or attend to one key each; valid: queries that weigh "
          "several keys",
          head_name(input)));
    }
    result.query_metric *= static_cast<double>(dim) / trace;
    result.query_metric += settings.metric_regularisation * Matrix::Identity(dim, dim);
  }
  return result;
}

std::vector<float> to_floats(const Matrix& matrix) {
  const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rounded = matrix.cast<float>();
  return {rounded.data(), rounded.data() + rounded.size()};
}

BitsFit fit_bits(const HeadStatistics& head, int bits, const FitSettings& settings) {
  const Eigen::Index dim = head.key_covariance.rows();
  const Matrix& keys = head.key_covariance;
  const Matrix& queries = head.query_metric;
  BitsFit fit;
  fit.bits = bits;
  const Vector eigenvalues = product_eigenvalues(keys, queries);
  const double theta = water_level(eigenvalues, static_cast<double>(bits));
  fit.objective.bound = cascade_distortion(eigenvalues, Vector::Ones(dim), theta);
  fit.objective.before = cascade_distortion(keys.diagonal(), queries.diagonal(), theta);

  CascadeStart start = greedy_cascade(settings.blocks, settings.layers, keys, queries, theta);
  const CascadeObjective objective(settings.blocks, std::move(start.layers), keys, queries, theta);
  Vector gradient;
  fit.objective.start = objective(start.parameters, gradient);
  LbfgsSettings refinement;
  refinement.iterations = settings.iterations;
  fit.objective.after = minimize_lbfgs(objective, start.parameters, refinement).objective;

  CalibratedParameters parameters;
  parameters.dim = dim;
  parameters.bits = bits;
  parameters.centroid_bits = settings.centroid_bits;
  parameters.scale = settings.scale;
  parameters.scale.zero =
      static_cast<int>(std::lround(settings.scale.steps_per_octave * std::log2(head.median_scale)));
  parameters.centroids = to_floats(head.centroids);
  parameters.query_metric = to_floats(queries);
  parameters.transform = objective.cascade(start.parameters);
  const std::vector<double> forward = parameters.transform.matrix();
  const std::vector<double> inverse = parameters.transform.inverse();
  const Eigen::Map<const Matrix> f(forward.data(), dim, dim);
  const Eigen::Map<const Matrix> g(inverse.data(), dim, dim);
  const Vector variance = (f * keys).cwiseProduct(f).rowwise().sum();
  const Vector weights = (g.transpose() * queries).cwiseProduct(g.transpose()).rowwise().sum();
  for (Eigen::Index i = 0; i < dim; ++i) {
    parameters.deviations.push_back(static_cast<float>(std::sqrt(variance(i))));
    parameters.weights.push_back(static_cast<float>(weights(i)));
  }
  parameters.validate();
  fit.parameters = std::make_shared<const CalibratedParameters>(std::move(parameters));
  return fit;
}

}  // namespace

void FitSettings::validate() const {
  const auto require = [](bool valid, const std::string& message) {
    if (!valid) throw UsageError("calibration: " + message);
  };
  require(!bits.empty(), "no bits; valid: a list of 1..8");
  for (const int b : bits) require(b >= 1 && b <= max_width, fmt::format("bits = {}; valid: 1..8", b));
  require(std::set<int>(bits.begin(), bits.end()).size() == bits.size(),
          "bits are listed twice; valid: distinct values");
  require(layers >= 0 && layers <= 64, fmt::format("layers = {}; valid: 0..64", layers));
  require(iterations >= 0, fmt::format("iterations = {}; valid: 0 or more", iterations));
  require(centroid_bits >= 0 && centroid_bits <= 8,
          fmt::format("centroid_bits = {}; valid: 0..8", centroid_bits));
  require(scale.bits >= 1 && scale.bits <= 12, fmt::format("scale bits = {}; valid: 1..12", scale.bits));
  require(scale.steps_per_octave >= 1,
          fmt::format("scale steps per octave = {}; valid: 1 or more", scale.steps_per_octave));
  require(sinks >= 0, fmt::format("sinks = {}; valid: 0 or more", sinks));
  require(min_context >= 0, fmt::format("min_context = {}; valid: 0 or more", min_context));
  require(attention_mix >= 0.0 && attention_mix <= 1.0,
          fmt::format("attention_mix = {}; valid: 0..1", attention_mix));
  require(covariance_shrinkage > 0.0 && covariance_shrinkage <= 1.0,
          fmt::format("covariance_shrinkage = {}; valid: above 0, at most 1", covariance_shrinkage));
  require(metric_regularisation > 0.0,
          fmt::format("metric_regularisation = {}; valid: above 0", metric_regularisation));
  require(kmeans_restarts >= 1 && kmeans_restarts <= max_restarts,
          fmt::format("kmeans_restarts = {}; valid: 1..{}", kmeans_restarts, max_restarts));
  require(kmeans_iterations >= 1, fmt::format("kmeans_iterations = {}; valid: 1 or more", kmeans_iterations));
}

const HeadFit& TransformSet::head(std::int64_t layer, std::int64_t kv_head) const {
  const auto found = std::find_if(heads.begin(), heads.end(),
                                  [&](const HeadFit& h) { return h.layer == layer && h.kv_head == kv_head; });
  if (found == heads.end()) {
    throw Error(fmt::format("transforms: no fit for layer {}, KV head {}; present: layers {}, KV heads 0..{}",
                            layer, kv_head, fmt::join(layers(), ", "), num_kv_heads - 1));
  }
  return *found;
}

const BitsFit& TransformSet::find(std::int64_t layer, std::int64_t kv_head, int bits) const {
  const std::vector<BitsFit>& fits = head(layer, kv_head).bits;
  const auto fit = std::find_if(fits.begin(), fits.end(), [&](const BitsFit& b) { return b.bits == bits; });
  if (fit == fits.end()) {
    throw Error(
        fmt::format("transforms: no fit for {} bits; present: {}", bits, fmt::join(settings.bits, ", ")));
  }
  return *fit;
}

std::vector<std::int64_t> TransformSet::layers() const {
  std::set<std::int64_t> distinct;
  for (const HeadFit& head : heads) distinct.insert(head.layer);
  return {distinct.begin(), distinct.end()};
}

void TransformSet::check_model(std::int64_t model_head_dim, std::int64_t model_num_kv_heads,
                               const Rope& model_rope) const {
  if (model_head_dim != head_dim) {
    throw Error(fmt::format(
        "transforms: fitted for head_dim {}, the dump has {}; valid: transforms of the same model", head_dim,
        model_head_dim));
  }
  if (model_num_kv_heads != num_kv_heads) {
    throw Error(fmt::format(
        "transforms: fitted for {} KV heads, the dump has {}; valid: transforms of the same model",
        num_kv_heads, model_num_kv_heads));
  }
  if (rope.inv_freq.empty() != model_rope.inv_freq.empty()) {
    throw Error(
        rope.inv_freq.empty()
            ? "transforms: fitted without RoPE, the dump has rope_inv_freq; valid: transforms of the same "
              "model"
            : "transforms: fitted on keys before RoPE, the dump has no rope_inv_freq; valid: a dump with "
              "rope_inv_freq and positions");
  }
  // Frequencies computed in another precision still count as the same.
  constexpr double relative_tolerance = 1e-4;
  bool same = rope.inv_freq.size() == model_rope.inv_freq.size() &&
              (rope.inv_freq.empty() || rope.layout == model_rope.layout);
  for (std::size_t j = 0; same && j < rope.inv_freq.size(); ++j) {
    same = std::abs(rope.inv_freq[j] - model_rope.inv_freq[j]) <=
           relative_tolerance * std::abs(rope.inv_freq[j]);
  }
  if (!same) {
    throw Error(
        "transforms: fitted with another rotary embedding than the dump's (rope_inv_freq or rope_layout "
        "differ); "
        "valid: transforms of the same model");
  }
}

bool TransformSet::fitted_on(const std::string& sha256) const {
  return std::any_of(sources.begin(), sources.end(),
                     [&](const CalibrationSource& s) { return s.sha256 == sha256; });
}

TransformSet fit_transforms(const Context& context, std::span<const CalibrationInput> inputs,
                            const CalibrationModel& model, const FitSettings& settings,
                            const FitProgress& progress) {
  settings.validate();
  TransformSet set;
  set.settings = settings;
  set.head_dim = model.head_dim;
  set.rope = model.rope;
  set.heads.resize(inputs.size());
  for (const CalibrationInput& input : inputs) {
    check_input(input, model, settings);
    set.num_kv_heads = std::max(set.num_kv_heads, input.kv_head + 1);
  }
  const auto total = static_cast<std::int64_t>(inputs.size());
  std::mutex reporting;
  std::int64_t done = 0;
  parallel_for(context, total, [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    const CalibrationInput& input = inputs[index];
    const HeadStatistics statistics = measure_head(input, model, settings);
    HeadFit& head = set.heads[index];
    head.layer = input.layer;
    head.kv_head = input.kv_head;
    for (const int bits : settings.bits) head.bits.push_back(fit_bits(statistics, bits, settings));
    head.statistics = std::make_shared<const KeyStatistics>(measure_statistics(input, model, settings.sinks));
    if (progress) {
      const std::lock_guard lock(reporting);
      progress(++done, total);
    }
  });
  return set;
}

}  // namespace rotorquant::evaluation

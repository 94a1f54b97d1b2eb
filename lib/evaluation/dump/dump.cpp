#include "evaluation/dump/dump.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "evaluation/dump/catalogue.hpp"
#include "evaluation/dump/sha256.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// Of one open dataset: a compressed chunk that spans several heads is then expanded once and not once for
// each head.
constexpr std::size_t chunk_cache_bytes = std::size_t{64} << 20;

std::vector<double> default_frequencies(const DumpInfo& info) {
  std::vector<double> frequencies;
  if (info.rope_stage == "none") return frequencies;
  for (std::int64_t pair = 0; pair < info.rotary_dim / 2; ++pair) {
    const double exponent = -2.0 * static_cast<double>(pair) / static_cast<double>(info.rotary_dim);
    frequencies.push_back(std::pow(info.rope_theta, exponent));
  }
  return frequencies;
}

}  // namespace

struct Dump::State {
  // The dataset last read of one kind of tensor.
  struct OpenDataset {
    std::string path;
    hdf5::Dataset dataset;
  };

  std::string path;
  hdf5::File file;
  Catalogue catalogue;
  DumpInfo info;
  std::vector<std::int64_t> query_rows;  // of the file, those kept; ascending
  std::vector<std::int64_t> query_tokens;
  OpenDataset open_key;
  OpenDataset open_value;
  OpenDataset open_query;

  void restrict_tokens(std::int64_t max_tokens);
  std::vector<float> read(const std::optional<TensorSource> LayerSources::*tensor, OpenDataset& open,
                          std::int64_t layer, std::int64_t head, std::int64_t rows);
};

void Dump::State::restrict_tokens(std::int64_t max_tokens) {
  info.num_tokens = std::min(info.num_tokens, max_tokens);
  const auto kept = static_cast<std::size_t>(info.num_tokens);
  catalogue.positions.resize(kept);
  if (info.has_token_ids) catalogue.token_ids.resize(kept);
  for (std::size_t row = 0; row < catalogue.query_tokens.size(); ++row) {
    if (catalogue.query_tokens[row] >= info.num_tokens) continue;
    query_rows.push_back(static_cast<std::int64_t>(row));
    query_tokens.push_back(catalogue.query_tokens[row]);
  }
  if (info.num_queries > 0 && query_rows.empty()) {
    info.no_queries_reason = fmt::format("the dump has no query among its first {} tokens", info.num_tokens);
  }
  info.num_queries = static_cast<std::int64_t>(query_rows.size());
}

std::vector<float> Dump::State::read(const std::optional<TensorSource> LayerSources::*tensor,
                                     OpenDataset& open, std::int64_t layer, std::int64_t head,
                                     std::int64_t rows) {
  const auto found = catalogue.layers.find(layer);
  if (found == catalogue.layers.end()) {
    throw UsageError(fmt::format("{}: layer {} is not in the dump; it holds {}", path, layer,
                                 fmt::join(info.layers, ", ")));
  }
  const auto& source = found->second.*tensor;
  if (!source) throw UsageError(fmt::format("{}: {}", path, info.no_queries_reason));
  if (head < 0 || head >= source->heads) {
    throw UsageError(fmt::format("{}: {}: head {} is out of range; valid are 0 to {}", path, source->path,
                                 head, source->heads - 1));
  }
  std::vector<float> slab;
  try {
    const hdf5::Session session;
    if (open.path != source->path) {
      open.dataset = hdf5::open_dataset(file, source->path, chunk_cache_bytes);
      open.path = source->path;
    }
    slab = read_slab(open.dataset, *source, head, rows);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}: {}", path, source->path, error.what()));
  }
  if (const auto bad = first_non_finite(slab)) {
    throw Error(
        fmt::format("{}: {}: {}", path, source->path, non_finite_message(slab, *bad, *source, layer, head)));
  }
  return slab;
}

Dump::Dump(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dump::Dump(Dump&&) noexcept = default;
Dump& Dump::operator=(Dump&&) noexcept = default;
Dump::~Dump() = default;

Dump Dump::open(const std::string& path, const DumpOptions& options) {
  if (options.max_tokens && *options.max_tokens < 1) {
    throw UsageError(fmt::format("max-tokens is {}, expected at least 1", *options.max_tokens));
  }
  auto state = std::make_unique<State>();
  state->path = path;
  state->file = hdf5::open_file(path);
  try {
    state->catalogue = examine(state->file, options);
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
  const std::vector<Problem>& problems = state->catalogue.problems;
  if (!problems.empty()) {
    const std::string others =
        problems.size() == 1
            ? ""
            : fmt::format(" (and {} more; see rotorquant inspect --validate)", problems.size() - 1);
    throw Error(fmt::format("{}: {}: {}{}", path, problems[0].path, problems[0].message, others));
  }
  state->info = state->catalogue.info;
  if (state->catalogue.positions.empty()) {
    state->catalogue.positions.resize(static_cast<std::size_t>(state->info.num_tokens));
    std::iota(state->catalogue.positions.begin(), state->catalogue.positions.end(), std::int64_t{0});
  }
  if (state->catalogue.rope_inv_freq.empty())
    state->catalogue.rope_inv_freq = default_frequencies(state->info);
  state->restrict_tokens(options.max_tokens.value_or(state->info.num_tokens));
  return Dump(std::move(state));
}

const std::string& Dump::path() const {
  return state_->path;
}
const DumpInfo& Dump::info() const {
  return state_->info;
}

std::vector<float> Dump::read_key(std::int64_t layer, std::int64_t kv_head) const {
  return state_->read(&LayerSources::key, state_->open_key, layer, kv_head, state_->info.num_tokens);
}

std::vector<float> Dump::read_value(std::int64_t layer, std::int64_t kv_head) const {
  return state_->read(&LayerSources::value, state_->open_value, layer, kv_head, state_->info.num_tokens);
}

std::vector<float> Dump::read_query(std::int64_t layer, std::int64_t query_head) const {
  const std::vector<std::int64_t>& rows = state_->query_rows;
  if (rows.empty()) throw UsageError(fmt::format("{}: {}", state_->path, state_->info.no_queries_reason));
  std::vector<float> queries =
      state_->read(&LayerSources::query, state_->open_query, layer, query_head, rows.back() + 1);
  // Rows only move towards the front, so that they can move in place.
  const std::int64_t dim = state_->info.head_dim;
  for (std::size_t kept = 0; kept < rows.size(); ++kept) {
    if (rows[kept] == static_cast<std::int64_t>(kept)) continue;
    std::copy_n(queries.begin() + rows[kept] * dim, dim,
                queries.begin() + static_cast<std::int64_t>(kept) * dim);
  }
  queries.resize(rows.size() * static_cast<std::size_t>(dim));
  return queries;
}

const std::vector<std::int64_t>& Dump::query_positions() const {
  return state_->query_tokens;
}
const std::vector<std::int64_t>& Dump::positions() const {
  return state_->catalogue.positions;
}
const std::vector<std::int64_t>& Dump::token_ids() const {
  return state_->catalogue.token_ids;
}
const std::vector<double>& Dump::rope_inv_freq() const {
  return state_->catalogue.rope_inv_freq;
}
std::string Dump::sha256() const {
  return file_sha256(state_->path);
}

}  // namespace rotorquant::evaluation

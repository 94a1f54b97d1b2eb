#pragma once
// What a file holds and everything that is wrong with it, as far as that can be told without reading the
// tensors. The native format and mapped files come to the same description, from which Dump reads and the
// validator scans.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/dump/dump.hpp"
#include "evaluation/dump/element_type.hpp"
#include "evaluation/dump/hdf5.hpp"
#include "evaluation/dump/validator.hpp"

namespace rotorquant::evaluation {

// The [heads, tokens, channels] of one layer inside one dataset.
struct TensorSource {
  std::string path;
  std::string axes;              // one letter for each axis of the dataset, slowest first
  std::int64_t layer_index = 0;  // along L
  std::int64_t batch_index = 0;  // along B
  ElementType type = ElementType::float32;
  std::int64_t heads = 0;
  std::int64_t tokens = 0;
  std::int64_t channels = 0;
};

struct LayerSources {
  std::string path;                 // what the file calls the layer, for messages
  std::optional<TensorSource> key;  // absent only where a problem says so
  std::optional<TensorSource> value;
  std::optional<TensorSource> query;
};

struct Catalogue {
  DumpInfo info;  // of the whole file
  std::map<std::int64_t, LayerSources> layers;
  std::vector<std::int64_t> token_ids;     // [T] or empty
  std::vector<std::int64_t> positions;     // [T] or empty
  std::vector<std::int64_t> query_tokens;  // [T_q] or empty: the last key that each query sees
  std::vector<double> rope_inv_freq;       // [rotary_dim / 2] or empty
  std::vector<Problem> problems;
};

Catalogue examine(const hdf5::File& file, const DumpOptions& options);

// Head `head` of a tensor as [rows, channels] float32, rows [0, row_count). Error (without a path) when it
// cannot be read.
std::vector<float> read_slab(const hdf5::Dataset& dataset, const TensorSource& source, std::int64_t head,
                             std::int64_t row_count);

// Position of the first element that is NaN or infinite; nullopt when all are finite.
std::optional<std::int64_t> first_non_finite(const std::vector<float>& values);

// "NaN at layer 5, head 1, token 17, channel 3; every value must be finite in float32" for element `at` of a
// slab.
std::string non_finite_message(const std::vector<float>& values, std::int64_t at, const TensorSource& source,
                               std::int64_t layer, std::int64_t head);

}  // namespace rotorquant::evaluation

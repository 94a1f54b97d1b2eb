#include "evaluation/sweep/request.hpp"

#include <fmt/format.h>

#include <fstream>
#include <functional>
#include <limits>

#include "evaluation/sweep/ranges.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using nlohmann::json;

constexpr std::int64_t unbounded = std::numeric_limits<std::int32_t>::max();

// One key of a configuration: how it is read into a request.
struct Key {
  std::string name;
  std::string expected;  // what a value must be, for errors
  std::function<void(const json&, SweepRequest&)> read;
};

std::vector<std::string> read_texts(const json& value) {
  if (value.is_string()) return {value.get<std::string>()};
  return value.get<std::vector<std::string>>();
}

// A list of numbers, or text such as "0-9".
std::vector<std::int64_t> read_numbers(const json& value, const std::string& what, std::int64_t low,
                                       std::int64_t high) {
  if (value.is_string()) return parse_ranges(value.get<std::string>(), what, low, high);
  std::string joined;
  const json list = value.is_array() ? value : json::array({value});
  for (const json& number : list) {
    if (!number.is_number_integer()) throw json::type_error::create(302, "not a whole number", nullptr);
    joined += fmt::format("{}{}", joined.empty() ? "" : ",", number.get<std::int64_t>());
  }
  return parse_ranges(joined, what, low, high);
}

std::int64_t read_count(const json& value) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0) {
    throw json::type_error::create(302, "not a whole number of 0 or more", nullptr);
  }
  return value.get<std::int64_t>();
}

const std::vector<Key>& config_keys() {
  static const std::vector<Key> keys = {
      {"name", "text", [](const json& v, SweepRequest& r) { r.name = v.get<std::string>(); }},
      {"description", "text", [](const json& v, SweepRequest& r) { r.description = v.get<std::string>(); }},
      {"quantizers", "a list of quantizers",
       [](const json& v, SweepRequest& r) { r.quantizers = read_texts(v); }},
      {"keys", "a list of quantizers", [](const json& v, SweepRequest& r) { r.keys = read_texts(v); }},
      {"values", "a list of quantizers", [](const json& v, SweepRequest& r) { r.values = read_texts(v); }},
      {"bits", "a list of whole numbers 1 to 8, or text such as \"2-4\"",
       [](const json& v, SweepRequest& r) { r.bits = read_numbers(v, "bits", min_bits, max_bits); }},
      {"seeds", "a list of whole numbers, or text such as \"0-9\"",
       [](const json& v, SweepRequest& r) { r.seeds = read_numbers(v, "seeds", 0, unbounded); }},
      {"baseline", "text", [](const json& v, SweepRequest& r) { r.baseline = v.get<std::string>(); }},
      {"layers", "a list of whole numbers, or text such as \"0,5-9\"",
       [](const json& v, SweepRequest& r) { r.layers = read_numbers(v, "layers", 0, unbounded); }},
      {"heads", "a list of whole numbers, or text such as \"0-2\"",
       [](const json& v, SweepRequest& r) { r.heads = read_numbers(v, "heads", 0, unbounded); }},
      {"max_tokens", "a whole number, 0 for all",
       [](const json& v, SweepRequest& r) { r.max_tokens = read_count(v); }},
      {"sinks", "a whole number", [](const json& v, SweepRequest& r) { r.sinks = read_count(v); }},
      {"transforms", "the path of a file",
       [](const json& v, SweepRequest& r) { r.transforms = v.get<std::string>(); }},
      {"min_context", "a whole number",
       [](const json& v, SweepRequest& r) { r.min_context = read_count(v); }},
      {"exact_metrics", "true or false",
       [](const json& v, SweepRequest& r) { r.exact_metrics = v.get<bool>(); }},
      {"metrics", "a list of metrics", [](const json& v, SweepRequest& r) { r.metrics = read_texts(v); }},
  };
  return keys;
}

}  // namespace

SweepRequest read_config(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(fmt::format("config {}: cannot be opened; valid: a readable JSON file", path));
  json config;
  try {
    config = json::parse(file);
  } catch (const json::parse_error& error) {
    throw Error(fmt::format("config {}: not valid JSON at byte {}", path, error.byte));
  } catch (const std::ios_base::failure&) {  // a folder opens, but does not read
    throw Error(fmt::format("config {}: cannot be read; valid: a readable JSON file", path));
  }
  if (!config.is_object()) throw Error(fmt::format("config {}: not a JSON object", path));
  SweepRequest request;
  std::vector<std::string> known;
  for (const Key& key : config_keys()) known.push_back(key.name);
  for (const auto& [name, value] : config.items()) {
    const auto& keys = config_keys();
    const auto key = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == name; });
    if (key == keys.end()) {
      throw UsageError(fmt::format("config {}: unknown key '{}'{}; valid: {}", path, name,
                                   nearest_hint(name, known), fmt::join(known, ", ")));
    }
    try {
      key->read(value, request);
    } catch (const json::exception&) {
      throw UsageError(
          fmt::format("config {}: key '{}' is {}; valid: {}", path, name, value.dump(), key->expected));
    } catch (const UsageError& error) {
      throw UsageError(fmt::format("config {}: {}", path, error.what()));
    }
  }
  return request;
}

nlohmann::ordered_json to_json(const SweepRequest& request) {
  nlohmann::ordered_json out;
  out["name"] = request.name;
  out["description"] = request.description;
  out["quantizers"] = request.quantizers;
  out["keys"] = request.keys;
  out["values"] = request.values;
  out["bits"] = request.bits;
  out["seeds"] = request.seeds;
  out["baseline"] = request.baseline;
  const auto optional_list = [](const std::optional<std::vector<std::int64_t>>& list) {
    return list ? nlohmann::ordered_json(*list) : nlohmann::ordered_json(nullptr);
  };
  out["layers"] = optional_list(request.layers);
  out["heads"] = optional_list(request.heads);
  out["max_tokens"] = request.max_tokens;
  out["sinks"] = request.sinks;
  out["transforms"] = request.transforms;
  out["min_context"] = request.min_context;
  out["exact_metrics"] = request.exact_metrics;
  out["metrics"] = request.metrics;
  return out;
}

}  // namespace rotorquant::evaluation

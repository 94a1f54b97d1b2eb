#include "evaluation/dump/axis_map.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <regex>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr const char* valid_form =
    "valid is key|value|query=/PATH,axes=LETTERS[,batch=I] with letters of L B H T D, or "
    "positions|query_positions=/PATH";

[[noreturn]] void refuse(const std::string& text, const std::string& reason) {
  throw UsageError(fmt::format("--map {}: {}; {}", text, reason, valid_form));
}

bool is_tensor(const std::string& name) {
  return name == "key" || name == "value" || name == "query";
}

// Removes ",NAME=VALUE" from the end of `text` and gives VALUE. Working from the end leaves commas in paths
// alone.
std::optional<std::string> take_option(std::string& text, const std::string& name) {
  const std::string mark = "," + name + "=";
  const std::size_t at = text.rfind(mark);
  if (at == std::string::npos || text.find_first_of(",/", at + mark.size()) != std::string::npos)
    return std::nullopt;
  std::string value = text.substr(at + mark.size());
  text.resize(at);
  return value;
}

void check_axes(const std::string& text, const std::string& axes) {
  for (const char axis : axes) {
    if (std::string("LBHTD").find(axis) == std::string::npos) {
      refuse(text, fmt::format("'{}' is not an axis letter", axis));
    }
    if (std::count(axes.begin(), axes.end(), axis) > 1)
      refuse(text, fmt::format("axis {} appears twice", axis));
  }
  for (const char axis : {'T', 'D'}) {
    if (axes.find(axis) == std::string::npos) refuse(text, fmt::format("axis {} is missing", axis));
  }
}

}  // namespace

std::optional<std::string> LayerPath::digits_of(const std::string& link) const {
  if (link.size() <= prefix.size() + suffix.size() || !link.starts_with(prefix) || !link.ends_with(suffix)) {
    return std::nullopt;
  }
  const std::string digits = link.substr(prefix.size(), link.size() - prefix.size() - suffix.size());
  const bool numeric = digits.find_first_not_of("0123456789") == std::string::npos;
  // Nine digits always fit an int64, and no model has more layers.
  return numeric && digits.size() <= 9 ? std::optional(digits) : std::nullopt;
}

std::optional<LayerPath> parse_layer_path(const std::string& path) {
  static const std::regex place(R"(\{layer\}|%[0-9]*d)");
  std::smatch match;
  if (!std::regex_search(path, match, place)) return std::nullopt;
  const auto begin = static_cast<std::size_t>(match.position());
  const std::size_t end = begin + static_cast<std::size_t>(match.length());
  const std::string after = match.suffix();
  if (std::regex_search(after, place)) throw UsageError(path + ": has more than one place for the layer");
  const std::size_t component = path.rfind('/', begin);
  const std::size_t next = std::min(path.find('/', end), path.size());
  return LayerPath{.group = component == 0 ? "/" : path.substr(0, component),
                   .prefix = path.substr(component + 1, begin - component - 1),
                   .suffix = path.substr(end, next - end),
                   .rest = path.substr(next)};
}

AxisMap parse_axis_map(const std::string& text) {
  const std::size_t equals = text.find('=');
  AxisMap map;
  map.tensor = text.substr(0, equals);
  if (equals == std::string::npos) refuse(text, "no '=' after the tensor's name");
  if (!is_tensor(map.tensor) && map.tensor != "positions" && map.tensor != "query_positions") {
    refuse(text,
           fmt::format("unknown tensor '{}'{}", map.tensor,
                       nearest_hint(map.tensor, {"key", "value", "query", "positions", "query_positions"})));
  }
  std::string rest = text.substr(equals + 1);
  if (is_tensor(map.tensor)) {
    // In either order.
    auto batch = take_option(rest, "batch");
    const auto axes = take_option(rest, "axes");
    if (!batch) batch = take_option(rest, "batch");
    if (!axes) refuse(text, "no axes");
    map.axes = *axes;
    check_axes(text, map.axes);
    if (batch) {
      std::int64_t index = -1;
      const auto [end, error] = std::from_chars(batch->data(), batch->data() + batch->size(), index);
      if (error != std::errc{} || end != batch->data() + batch->size() || index < 0) {
        refuse(text, fmt::format("batch '{}' is not an index", *batch));
      }
      if (map.axes.find('B') == std::string::npos) refuse(text, "batch is given but the axes have no B");
      map.batch = index;
    }
  }
  if (!rest.starts_with('/')) refuse(text, fmt::format("path '{}' does not begin with '/'", rest));
  if (rest.ends_with('/')) refuse(text, fmt::format("path '{}' names no array", rest));
  map.path = rest;
  map.layer_path = parse_layer_path(map.path);
  if (map.layer_path && map.axes.find('L') != std::string::npos) {
    refuse(text, "the layer is both in the path and an axis");
  }
  if (map.layer_path && !is_tensor(map.tensor)) refuse(text, "positions are shared by all layers");
  return map;
}

std::vector<AxisMap> parse_axis_maps(const std::vector<std::string>& texts) {
  std::vector<AxisMap> maps;
  for (const std::string& text : texts) {
    AxisMap map = parse_axis_map(text);
    const auto same = [&](const AxisMap& other) { return other.tensor == map.tensor; };
    if (std::any_of(maps.begin(), maps.end(), same))
      refuse(text, fmt::format("{} is mapped twice", map.tensor));
    maps.push_back(std::move(map));
  }
  for (const char* required : {"key", "value"}) {
    const auto named = [&](const AxisMap& map) { return map.tensor == required; };
    if (!maps.empty() && std::none_of(maps.begin(), maps.end(), named)) {
      throw UsageError(fmt::format("--map: no map for {}; {}", required, valid_form));
    }
  }
  return maps;
}

}  // namespace rotorquant::evaluation

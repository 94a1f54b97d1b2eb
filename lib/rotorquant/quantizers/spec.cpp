#include "rotorquant/quantizers/spec.hpp"

#include <algorithm>
#include <charconv>

#include "rotorquant/core/error.hpp"

namespace rotorquant {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) return parts;
    begin = end + 1;
  }
}

QuantizerSpec QuantizerSpec::parse(const std::string& text) {
  const std::vector<std::string> parts = split(text, ':');
  QuantizerSpec spec;
  spec.name = parts.front();
  if (spec.name.empty())
    throw UsageError("quantizer '" + text + "': the name is empty; valid: name:key=value:key=value");
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::size_t equals = parts[i].find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == parts[i].size()) {
      throw UsageError("quantizer '" + text + "': '" + parts[i] + "' is not of the form key=value");
    }
    const std::string key = parts[i].substr(0, equals);
    if (!spec.parameters.emplace(key, parts[i].substr(equals + 1)).second) {
      throw UsageError("quantizer '" + text + "': '" + key + "' is given twice");
    }
  }
  return spec;
}

std::string QuantizerSpec::text() const {
  std::string joined = name;
  for (const auto& [key, value] : parameters) joined += ":" + key + "=" + value;
  return joined;
}

ParameterReader::ParameterReader(const QuantizerSpec& spec, const std::vector<ParameterInfo>& accepted)
    : spec_(spec), accepted_(accepted) {
  std::vector<std::string> known;
  for (const ParameterInfo& parameter : accepted) known.push_back(parameter.key);
  for (const auto& [key, value] : spec.parameters) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string list;
    for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
    throw UsageError("quantizer '" + spec.name + "' has no parameter '" + key + "'" +
                     nearest_hint(key, known) + "; valid: " + (list.empty() ? "none" : list));
  }
}

const ParameterInfo& ParameterReader::info(const std::string& key) const {
  return *std::find_if(accepted_.begin(), accepted_.end(),
                       [&](const ParameterInfo& p) { return p.key == key; });
}

std::string ParameterReader::text(const std::string& key) const {
  const auto given = spec_.parameters.find(key);
  return given == spec_.parameters.end() ? info(key).default_value : given->second;
}

std::string ParameterReader::choice(const std::string& key) const {
  const std::string value = text(key);
  const std::vector<std::string> choices = split(info(key).values, '|');
  if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
    throw UsageError("quantizer '" + spec_.name + "': " + key + " = '" + value +
                     "'; valid: " + info(key).values);
  }
  return value;
}

std::int64_t ParameterReader::integer(const std::string& key, std::int64_t low, std::int64_t high) const {
  const std::string value = text(key);
  std::int64_t number = 0;
  const auto [end, status] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (status != std::errc() || end != value.data() + value.size() || number < low || number > high) {
    throw UsageError("quantizer '" + spec_.name + "': " + key + " = '" + value +
                     "'; valid: an integer from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return number;
}

}  // namespace rotorquant

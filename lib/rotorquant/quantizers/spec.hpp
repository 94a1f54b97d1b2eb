#pragma once
// How a quantizer is written: `name` or `name:key=value:key=value`, such as
// "turboquant:rotation=hadamard:scale=mse".
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace rotorquant {

struct QuantizerSpec {
  std::string name;
  std::map<std::string, std::string> parameters;  // as given; defaults are not filled in

  // Checks the form alone; names and values are checked by the registry. Errors: UsageError.
  static QuantizerSpec parse(const std::string& text);
  // The canonical text: parameters in alphabetical order.
  std::string text() const;
};

// One parameter that a quantizer accepts.
struct ParameterInfo {
  std::string key;
  std::string values;  // "fp16|fp32|reference" for a choice, or the legal range in words: "integer 1..4096"
  std::string default_value;  // as text
  std::string meaning;        // one line
};

// Reads the parameters of one specification against what its quantizer accepts. All errors are UsageErrors
// that name the quantizer, the parameter, the value and what would be valid.
class ParameterReader {
 public:
  // Throws on a key that `accepted` does not list.
  ParameterReader(const QuantizerSpec& spec, const std::vector<ParameterInfo>& accepted);

  // Whether the specification itself says something about this parameter.
  bool given(const std::string& key) const { return spec_.parameters.contains(key); }
  // The given value or the default, which must be one of the '|'-separated choices of the parameter's
  // `values`.
  std::string choice(const std::string& key) const;
  // The given value or the default as an integer in [low, high].
  std::int64_t integer(const std::string& key, std::int64_t low, std::int64_t high) const;
  std::string text(const std::string& key) const;

 private:
  const ParameterInfo& info(const std::string& key) const;

  const QuantizerSpec& spec_;
  const std::vector<ParameterInfo>& accepted_;
};

// "a|b|c" -> {a, b, c}.
std::vector<std::string> split(const std::string& text, char separator);

}  // namespace rotorquant

#include "evaluation/dump/attributes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr const char* format_name = "rotorquant-kv";
constexpr std::int64_t format_version = 1;

// Reads root attributes; every failure becomes a problem and leaves the field as it was.
class Reader {
 public:
  Reader(const hdf5::File& file, std::vector<Problem>& problems) : file_(file), problems_(problems) {}

  // True when the attribute is present and good.
  bool read(const char* name, std::string& field, bool required) {
    return fetch(name, required, [&] {
      const auto text = hdf5::string_attribute(file_, "/", name);
      if (text) field = *text;
      return text.has_value();
    });
  }
  bool read(const char* name, std::int64_t& field, bool required) {
    return fetch(name, required, [&] {
      const auto number = hdf5::number_attribute(file_, "/", name);
      if (number && !number->integral) throw Error(fmt::format("is {}, expected an integer", number->value));
      if (number) field = number->integer;
      return number.has_value();
    });
  }
  bool read(const char* name, double& field, bool required) {
    return fetch(name, required, [&] {
      const auto number = hdf5::number_attribute(file_, "/", name);
      if (number && !std::isfinite(number->value))
        throw Error(fmt::format("is {}, expected a finite number", number->value));
      if (number) field = number->value;
      return number.has_value();
    });
  }
  bool read(const char* name, bool& field, bool required) {
    std::int64_t number = field ? 1 : 0;
    if (!read(name, number, required)) return false;
    if (number != 0 && number != 1) add(name, fmt::format("is {}, expected 0 or 1", number));
    field = number != 0;
    return true;
  }
  // One of `valid`.
  void read_choice(const char* name, std::string& field, const std::vector<std::string>& valid,
                   bool required) {
    std::string text = field;
    if (!read(name, text, required)) return;
    if (std::find(valid.begin(), valid.end(), text) == valid.end()) {
      add(name, fmt::format("is '{}'; valid are {}", text, fmt::join(valid, ", ")));
    } else {
      field = text;
    }
  }

 private:
  void add(const char* name, const std::string& what) {
    problems_.push_back({"/", fmt::format("attribute {} {}", name, what)});
  }
  template <typename Fetch>
  bool fetch(const char* name, bool required, const Fetch& fetch_value) {
    try {
      if (fetch_value()) return true;
      if (required) add(name, "is missing");
    } catch (const Error& error) {
      add(name, error.what());
    }
    return false;
  }

  const hdf5::File& file_;
  std::vector<Problem>& problems_;
};

void check_positive(const char* name, std::int64_t value, std::vector<Problem>& problems) {
  if (value < 1)
    problems.push_back({"/", fmt::format("attribute {} is {}, expected at least 1", name, value)});
}

}  // namespace

bool check_format(const hdf5::File& file, std::vector<Problem>& problems) {
  const std::size_t before = problems.size();
  Reader reader(file, problems);
  std::string format;
  std::int64_t version = 0;
  if (!reader.read("format", format, false)) {
    if (problems.size() == before) {
      problems.push_back(
          {"/", fmt::format("attribute format is missing, expected '{}'; arrays of another layout are "
                            "read with --map key=/PATH,axes=LHTD",
                            format_name)});
    }
    return false;
  }
  if (format != format_name) {
    problems.push_back({"/", fmt::format("attribute format is '{}', expected '{}'", format, format_name)});
    return false;
  }
  if (!reader.read("format_version", version, true)) return false;
  if (version != format_version) {
    problems.push_back({"/", fmt::format("attribute format_version is {}, this tool reads version {}",
                                         version, format_version)});
    return false;
  }
  return true;
}

void read_attributes(const hdf5::File& file, bool required, DumpInfo& info, std::vector<Problem>& problems) {
  Reader reader(file, problems);
  reader.read("model", info.model, false);
  reader.read("source", info.source, false);
  if (required) {
    reader.read("num_layers", info.num_layers, true);
    reader.read("num_query_heads", info.num_query_heads, true);
    reader.read("num_kv_heads", info.num_kv_heads, true);
    reader.read("head_dim", info.head_dim, true);
  }
  reader.read("softmax_scale", info.softmax_scale, required);
  reader.read("causal", info.causal, required);
  reader.read_choice("rope_stage", info.rope_stage, {"post", "pre", "none"}, required);
  if (info.rope_stage == "none") return;
  reader.read_choice("rope_layout", info.rope_layout, {"half", "interleaved"}, required);
  reader.read("rope_theta", info.rope_theta, required);
  reader.read("rotary_dim", info.rotary_dim, required);
}

void check_relations(const DumpInfo& info, std::vector<Problem>& problems) {
  check_positive("num_layers", info.num_layers, problems);
  check_positive("num_query_heads", info.num_query_heads, problems);
  check_positive("num_kv_heads", info.num_kv_heads, problems);
  check_positive("head_dim", info.head_dim, problems);
  if (info.num_kv_heads > 0 && info.num_query_heads > 0 && info.num_query_heads % info.num_kv_heads != 0) {
    problems.push_back({"/", fmt::format("num_query_heads = {} is not a multiple of num_kv_heads = {}",
                                         info.num_query_heads, info.num_kv_heads)});
  }
  if (!(info.softmax_scale > 0.0)) {
    problems.push_back(
        {"/", fmt::format("attribute softmax_scale is {}, expected a positive number", info.softmax_scale)});
  }
  if (info.rope_stage == "none") return;
  if (!(info.rope_theta > 0.0)) {
    problems.push_back(
        {"/", fmt::format("attribute rope_theta is {}, expected a positive number", info.rope_theta)});
  }
  if (info.rotary_dim < 2 || info.rotary_dim % 2 != 0 || info.rotary_dim > info.head_dim) {
    problems.push_back(
        {"/", fmt::format("attribute rotary_dim is {}, expected an even number from 2 to head_dim = {}",
                          info.rotary_dim, info.head_dim)});
  }
}

}  // namespace rotorquant::evaluation

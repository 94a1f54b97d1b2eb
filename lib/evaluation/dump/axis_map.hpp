#pragma once
// Where other people's files keep their tensors: "--map key=/path,axes=LHTD".
//
//   key|value|query=/PATH,axes=LETTERS[,batch=I]
//   positions|query_positions=/PATH
//
// The letters name the axes of the array from the slowest to the fastest: L layer, B batch, H head, T token,
// D channel; each at most once, T and D always. Without H there is one head. The layers are the extent of L;
// or, where PATH holds {layer} (or %d, %03d), one array for each link that matches, numbered by its digits;
// or, with neither, one layer with index 0. A batch of more than one sequence needs batch=I, the sequence to
// read.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rotorquant::evaluation {

// A path with at most one place for a layer number, inside one of its components.
struct LayerPath {
  std::string group;   // the group whose links are layers: "/model"
  std::string prefix;  // of the link's name: "layer_"
  std::string suffix;  // of the link's name: ""
  std::string rest;    // what follows the link: "/attention/key"

  std::string at(const std::string& digits) const { return join(prefix + digits + suffix); }
  // The digits of a link's name that fits, e.g. "007"; nullopt for another link.
  std::optional<std::string> digits_of(const std::string& link) const;

 private:
  std::string join(const std::string& link) const { return (group == "/" ? "" : group) + "/" + link + rest; }
};

struct AxisMap {
  std::string tensor;                   // "key", "value", "query", "positions", "query_positions"
  std::string path;                     // as written, absolute
  std::optional<LayerPath> layer_path;  // when the path holds a place for the layer
  std::string axes;                     // e.g. "LHTD"; empty for positions and query_positions
  std::optional<std::int64_t> batch;
};

// Splits a path at its layer place; nullopt when it has none. More than one is a UsageError.
std::optional<LayerPath> parse_layer_path(const std::string& path);

// A malformed `text` is a UsageError that shows what is wrong and the valid form.
AxisMap parse_axis_map(const std::string& text);

// Parses every option; a tensor mapped twice, or key or value not at all, is a UsageError.
std::vector<AxisMap> parse_axis_maps(const std::vector<std::string>& texts);

}  // namespace rotorquant::evaluation

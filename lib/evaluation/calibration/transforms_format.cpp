#include "evaluation/calibration/transforms_format.hpp"

#include "evaluation/calibration/transforms_file.hpp"

namespace rotorquant::evaluation {

using namespace transforms_format;

const char* query_metric_name(QueryMetric metric) {
  return name_of(metric_names, metric);
}
QueryMetric parse_query_metric(const std::string& name) {
  return value_of(metric_names, name, "query metric");
}
const char* block_kind_name(BlockKind kind) {
  return name_of(block_names, kind);
}
BlockKind parse_block_kind(const std::string& name) {
  return value_of(block_names, name, "block kind");
}

}  // namespace rotorquant::evaluation

#include "evaluation/sweep/journal.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using nlohmann::json;

json number_or_null(double value) {
  return std::isnan(value) ? json(nullptr) : json(value);
}

// [dataset, setting, seed, layer, kv_head, [metrics], [[side data, bits]...], encode seconds, decode
// seconds]; JSON has no NaN, so null stands for it.
std::string to_line(const Cell& cell) {
  json metrics = json::array();
  for (const double value : cell.metrics) metrics.push_back(number_or_null(value));
  return json::array({cell.dataset, cell.setting, cell.seed, cell.layer, cell.kv_head, metrics, cell.side,
                      cell.encode_seconds, cell.decode_seconds})
      .dump();
}

Cell from_line(const std::string& line) {
  const json fields = json::parse(line);
  Cell cell;
  cell.dataset = fields.at(0);
  cell.setting = fields.at(1);
  cell.seed = fields.at(2);
  cell.layer = fields.at(3);
  cell.kv_head = fields.at(4);
  for (const json& value : fields.at(5)) {
    cell.metrics.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
  }
  cell.side = fields.at(6).get<BitsByField>();
  cell.encode_seconds = fields.at(7);
  cell.decode_seconds = fields.at(8);
  return cell;
}

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

}  // namespace

Journal::Journal(const std::string& path, const std::string& identity, bool resume) : path_(path) {
  const std::string content = read_all(path);
  // Complete lines only: what follows the last newline was being written when the sweep stopped.
  const std::size_t complete = content.rfind('\n') == std::string::npos ? 0 : content.rfind('\n') + 1;
  std::istringstream lines(content.substr(0, complete));
  std::string line;
  if (std::getline(lines, line)) {
    if (!resume) {
      throw Error(fmt::format(
          "journal {}: an unfinished sweep; continue it with --resume, or delete the file", path));
    }
    if (line != identity) {
      throw Error(fmt::format(
          "journal {}: belongs to a sweep of other data, settings or version; delete it to start over",
          path));
    }
    std::int64_t line_number = 1;
    while (std::getline(lines, line)) {
      ++line_number;
      try {
        restored_.push_back(from_line(line));
      } catch (const json::exception&) {
        throw Error(
            fmt::format("journal {}: line {} is damaged; delete the file to start over", path, line_number));
      }
    }
    std::filesystem::resize_file(path, complete);
  }
  file_.reset(std::fopen(path.c_str(), complete == 0 ? "wb" : "ab"));
  if (!file_) throw Error(fmt::format("journal {}: cannot be written: {}", path, std::strerror(errno)));
  if (complete == 0 && std::fputs((identity + "\n").c_str(), file_.get()) < 0) {
    throw Error(fmt::format("journal {}: cannot be written: {}", path, std::strerror(errno)));
  }
}

void Journal::append(const Cell& cell) {
  const std::string line = to_line(cell) + "\n";
  const bool written = std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size();
  if (!written || std::fflush(file_.get()) != 0) {
    throw Error(fmt::format("journal {}: cannot be written: {}", path_, std::strerror(errno)));
  }
}

}  // namespace rotorquant::evaluation

#include "evaluation/report/atomic_file.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "evaluation/files/partial_file.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

std::string last_reason() {
  return errno != 0 ? std::strerror(errno) : "unknown reason";
}

}  // namespace

void write_file_atomically(const std::string& path, const std::function<void(std::ostream&)>& write) {
  if (path == "-") {
    write(std::cout);
    std::cout.flush();
    if (!std::cout) throw Error("cannot write to standard output");
    return;
  }
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (std::filesystem::is_directory(status)) {
    throw Error(fmt::format("cannot write '{}': it is a directory; name a file in it", path));
  }
  // A device or a pipe is written in place: there is nothing to replace.
  const bool in_place = std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
  PartialFile partial(path);
  errno = 0;
  std::ofstream stream(in_place ? path : partial.path(), std::ios::binary | std::ios::trunc);
  if (!stream) throw Error(fmt::format("cannot write '{}': {}", path, last_reason()));
  if (!in_place) partial.created();
  write(stream);
  stream.close();
  if (!stream) throw Error(fmt::format("cannot write '{}': {}", path, last_reason()));
  if (in_place) return;
  partial.publish();
}

void write_file_atomically(const std::string& path, const std::string& content) {
  write_file_atomically(path, [&](std::ostream& stream) { stream << content; });
}

}  // namespace rotorquant::evaluation

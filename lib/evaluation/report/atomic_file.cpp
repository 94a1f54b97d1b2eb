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

Error write_error(const std::string& path) {
  return Error(
      fmt::format("cannot write '{}': {}", path, errno != 0 ? std::strerror(errno) : "unknown reason"));
}

// `path` is what errors name.
std::ofstream open_file(const std::string& file, const std::string& path) {
  errno = 0;
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  if (!stream) throw write_error(path);
  return stream;
}

void close_file(std::ofstream& stream, const std::string& path) {
  stream.close();
  if (!stream) throw write_error(path);
}

}  // namespace

bool is_stream(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  return path == "-" || (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
                         !std::filesystem::is_directory(status));
}

void write_file_atomically(const std::string& path, const std::function<void(std::ostream&)>& write) {
  if (path == "-") {
    write(std::cout);
    std::cout.flush();
    if (!std::cout) throw Error("cannot write to standard output");
    return;
  }
  if (is_stream(path)) {
    std::ofstream stream = open_file(path, path);
    write(stream);
    close_file(stream, path);
    return;
  }
  PartialFile partial(path);
  std::ofstream stream = open_file(partial.path(), path);
  partial.created();
  write(stream);
  close_file(stream, path);
  partial.publish();
}

void write_file_atomically(const std::string& path, const std::string& content) {
  write_file_atomically(path, [&](std::ostream& stream) { stream << content; });
}

}  // namespace rotorquant::evaluation

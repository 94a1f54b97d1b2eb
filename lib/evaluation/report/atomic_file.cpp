#include "evaluation/report/atomic_file.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

std::string last_reason() {
  return errno != 0 ? std::strerror(errno) : "unknown reason";
}

// Removes the partial file unless it became the real one.
class PartialFile {
 public:
  explicit PartialFile(const std::string& path) : path_(path + ".partial") {}
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  ~PartialFile() {
    if (created_) std::remove(path_.c_str());
  }
  const std::string& path() const { return path_; }
  void created() { created_ = true; }
  void renamed() { created_ = false; }

 private:
  std::string path_;
  bool created_ = false;
};

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
  if (std::rename(partial.path().c_str(), path.c_str()) != 0) {
    throw Error(fmt::format("cannot write '{}': {}", path, last_reason()));
  }
  partial.renamed();
}

void write_file_atomically(const std::string& path, const std::string& content) {
  write_file_atomically(path, [&](std::ostream& stream) { stream << content; });
}

}  // namespace rotorquant::evaluation

#include "evaluation/files/partial_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::array ending_signals = {SIGINT, SIGTERM, SIGHUP};

// Paths that a signal has to remove; lock-free, so that a handler may read them.
std::array<std::atomic<const char*>, 16> pending;
static_assert(std::atomic<const char*>::is_always_lock_free);

extern "C" void remove_pending(int signal) {
  for (const std::atomic<const char*>& path : pending) {
    if (const char* file = path.load(); file != nullptr) unlink(file);
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// Replaces handler `from`, and no other, by `to`.
void exchange_handlers(void (*from)(int), void (*to)(int)) {
  for (const int signal : ending_signals) {
    struct sigaction current = {};
    if (sigaction(signal, nullptr, &current) == 0 && current.sa_handler == from) std::signal(signal, to);
  }
}

}  // namespace

PartialFile::PartialFile(const std::string& path)
    : final_path_(path), path_(path + ".partial"), existed_(access(path_.c_str(), F_OK) == 0) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (std::filesystem::is_directory(status))
    throw Error(fmt::format("cannot write '{}': it is a directory; name a file in it", path));
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw Error(fmt::format("cannot write '{}': it is a device or a pipe; valid: the path of a file", path));
}

PartialFile::~PartialFile() {
  if (published_ || (existed_ && !created_)) return;
  // What failed to create it may have left an empty one behind.
  std::remove(path_.c_str());
  if (created_) release();
}

void PartialFile::created() {
  created_ = true;
  for (std::atomic<const char*>& slot : pending) {
    const char* unused = nullptr;
    if (slot.compare_exchange_strong(unused, path_.c_str())) break;
  }
  exchange_handlers(SIG_DFL, remove_pending);
}

void PartialFile::publish() {
  if (std::rename(path_.c_str(), final_path_.c_str()) != 0) {
    throw Error(fmt::format("cannot write '{}': {}", final_path_, std::strerror(errno)));
  }
  published_ = true;
  release();
}

void PartialFile::release() {
  bool others = false;
  for (std::atomic<const char*>& slot : pending) {
    const char* mine = path_.c_str();
    slot.compare_exchange_strong(mine, nullptr);
    others = others || slot.load() != nullptr;
  }
  if (!others) exchange_handlers(remove_pending, SIG_DFL);
}

}  // namespace rotorquant::evaluation

#include "evaluation/figures/gnuplot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

#include "evaluation/report/atomic_file.hpp"
#include "rotorquant/core/error.hpp"

extern char** environ;

namespace rotorquant::evaluation {
namespace {

namespace files = std::filesystem;

constexpr std::array<std::string_view, 3> picture_formats{"pdf", "svg", "png"};
constexpr int shell_not_found = 127;  // exit code of a spawned program that could not be started

// A folder that disappears with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (files::temp_directory_path() / "rotorquant-figures-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw Error(fmt::format("cannot make a folder for figures in '{}': {}",
                              files::temp_directory_path().string(), std::strerror(errno)));
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    files::remove_all(path_, ignored);
  }
  const files::path& path() const { return path_; }

 private:
  files::path path_;
};

std::string read_file(const files::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// What gnuplot said, in one line.
std::string first_line(const std::string& text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n' && !line.empty()) break;
    if (c != '\n') line += c;
  }
  return line;
}

// Runs `gnuplot -e format='FORMAT' NAME.gp` in `folder`; its output goes to a file there.
void run_gnuplot(const files::path& folder, const std::string& name, const std::string& format) {
  const files::path log = folder / "gnuplot.log";
  const std::string setting = fmt::format("format='{}'", format);
  const std::string script = fmt::format("{}.gp", name);
  std::array<char*, 5> arguments{const_cast<char*>("gnuplot"), const_cast<char*>("-e"),
                                 const_cast<char*>(setting.c_str()), const_cast<char*>(script.c_str()),
                                 nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int started = posix_spawnp(&child, arguments.front(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (started == 0) {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  }
  if (started == ENOENT || (started == 0 && WIFEXITED(status) && WEXITSTATUS(status) == shell_not_found)) {
    throw Error(
        "gnuplot, which draws the figures, is not installed; valid: install it (Debian and Ubuntu: "
        "gnuplot-nox), or 'tables "
        "--format html --no-figures'");
  }
  if (started != 0) throw Error(fmt::format("gnuplot cannot be started: {}", std::strerror(started)));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Error(fmt::format("gnuplot failed on {}: {}", script, first_line(read_file(log))));
  if (!files::exists(folder / fmt::format("{}.{}", name, format)))
    throw Error(fmt::format("gnuplot drew no {} of {}: {}", format, script, first_line(read_file(log))));
}

void write_sources(const Figure& figure, const files::path& folder) {
  write_file_atomically((folder / fmt::format("{}.dat", figure.name)).string(), gnuplot_data(figure));
  write_file_atomically((folder / fmt::format("{}.gp", figure.name)).string(), gnuplot_script(figure));
}

}  // namespace

void check_picture_format(const std::string& name) {
  if (std::find(picture_formats.begin(), picture_formats.end(), name) != picture_formats.end()) return;
  throw UsageError(fmt::format("picture format '{}'; valid: {}", name, fmt::join(picture_formats, ", ")));
}

std::vector<std::string> draw_figures(const std::vector<Figure>& figures, const std::string& folder,
                                      const std::vector<std::string>& formats) {
  const TemporaryFolder drawing;
  for (const Figure& figure : figures) {
    write_sources(figure, drawing.path());
    for (const std::string& format : formats) run_gnuplot(drawing.path(), figure.name, format);
  }
  std::error_code failed;
  files::create_directories(folder, failed);
  if (failed) throw Error(fmt::format("cannot make the folder '{}': {}", folder, failed.message()));
  std::vector<std::string> pictures;
  for (const Figure& figure : figures) {
    write_sources(figure, folder);
    for (const std::string& format : formats) {
      const std::string file = fmt::format("{}.{}", figure.name, format);
      pictures.push_back((files::path(folder) / file).string());
      write_file_atomically(pictures.back(), read_file(drawing.path() / file));
    }
  }
  return pictures;
}

std::vector<std::string> draw_svg(const std::vector<Figure>& figures) {
  const TemporaryFolder drawing;
  std::vector<std::string> documents;
  for (const Figure& figure : figures) {
    write_sources(figure, drawing.path());
    run_gnuplot(drawing.path(), figure.name, "svg");
    documents.push_back(read_file(drawing.path() / fmt::format("{}.svg", figure.name)));
  }
  return documents;
}

}  // namespace rotorquant::evaluation

#include "evaluation/bench/script_operation.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// A child process with pipes to its standard input and from its standard output.
class Child {
 public:
  Child(const std::string& command, const BenchShape& shape) : command_(command) {
    std::array<int, 2> input{}, output{};
    if (pipe(input.data()) != 0 || pipe(output.data()) != 0)
      throw Error(fmt::format("rival '{}': no pipe", command));
    // Everything the child needs is made before the fork: afterwards only calls safe in a threaded process.
    const std::vector<std::string> settings = {
        fmt::format("ROTORQUANT_BENCH_DIM={}", shape.dim),
        fmt::format("ROTORQUANT_BENCH_BITS={}", shape.bits),
        fmt::format("ROTORQUANT_BENCH_VECTORS={}", shape.vectors),
        fmt::format("ROTORQUANT_BENCH_TYPE={}", rotorquant::element_type_name(shape.type)),
        fmt::format("ROTORQUANT_BENCH_THREADS={}", shape.threads),
        fmt::format("ROTORQUANT_BENCH_DEVICE={}", shape.device)};
    std::vector<char*> environment;
    for (const std::string& setting : settings) environment.push_back(const_cast<char*>(setting.c_str()));
    for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
    environment.push_back(nullptr);
    const char* arguments[] = {"sh", "-c", command_.c_str(), nullptr};
    pid_ = fork();
    if (pid_ < 0) throw Error(fmt::format("rival '{}': cannot start", command));
    if (pid_ == 0) {
      dup2(input[0], STDIN_FILENO);
      dup2(output[1], STDOUT_FILENO);
      for (const int descriptor : {input[0], input[1], output[0], output[1]}) close(descriptor);
      execve("/bin/sh", const_cast<char**>(arguments), environment.data());
      _exit(127);
    }
    close(input[0]);
    close(output[1]);
    to_ = fdopen(input[1], "w");
    from_ = fdopen(output[0], "r");
  }
  ~Child() {
    std::fclose(to_);
    std::fclose(from_);
    int status = 0;
    waitpid(pid_, &status, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  std::string answer() {
    std::string line;
    for (int c = std::fgetc(from_); c != '\n'; c = std::fgetc(from_)) {
      if (c == EOF) throw Error(fmt::format("rival '{}': ended without an answer", command_));
      line.push_back(static_cast<char>(c));
    }
    return line;
  }
  void ask(int repetitions) {
    // A rival that has ended makes this fail, and the missing answer tells.
    fmt::print(to_, "{}\n", repetitions);
    std::fflush(to_);
  }

 private:
  std::string command_;
  pid_t pid_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

}  // namespace

std::optional<BenchOperation> script_operation(const std::string& command, const BenchShape& shape,
                                               std::vector<SkippedOperation>& skipped) {
  std::signal(SIGPIPE, SIG_IGN);
  auto child = std::make_shared<Child>(command, shape);
  const std::string line = child->answer();
  const nlohmann::json answer = nlohmann::json::parse(line, nullptr, false);
  if (answer.is_object() && answer.contains("skip") && answer["skip"].is_string()) {
    skipped.push_back({command, answer["skip"].get<std::string>()});
    return std::nullopt;
  }
  BenchOperation operation;
  try {
    operation.name = answer.at("operation").get<std::string>();
    operation.quantizer = answer.at("quantizer").get<std::string>();
    operation.bytes_read = answer.at("bytes_read").get<std::int64_t>();
    operation.bytes_written = answer.at("bytes_written").get<std::int64_t>();
  } catch (const nlohmann::json::exception&) {
    throw Error(
        fmt::format("rival '{}': answers '{}'; valid: a line of JSON with operation, quantizer, "
                    "bytes_read and bytes_written, or skip",
                    command, line));
  }
  operation.time = [child, command](int repetitions) {
    child->ask(repetitions);
    const std::string text = child->answer();
    try {
      return std::stod(text);
    } catch (const std::exception&) {
      throw Error(fmt::format("rival '{}': answers '{}'; valid: seconds", command, text));
    }
  };
  operation.check = [] {};  // the program's own business, before it first answers
  return operation;
}

}  // namespace rotorquant::evaluation

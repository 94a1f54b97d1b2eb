#pragma once
// Output that appears under its final name only when complete: it is written as PATH.partial and renamed at
// the end. Whatever ends the work before, an exception or SIGINT, SIGTERM or SIGHUP, takes PATH.partial with
// it.
#include <string>

namespace rotorquant::evaluation {

class PartialFile {
 public:
  // Creates nothing yet. Throws an Error where `path` is a directory, or a device or pipe, which a rename
  // would replace.
  explicit PartialFile(const std::string& path);
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  // Removes the file unless it was published. One that was there before this object, and that created() did
  // not take over, stays.
  ~PartialFile();

  const std::string& path() const { return path_; }  // to write to
  // To be called once the file exists; from then on it is this object's to remove. At most 16 at a time are
  // removed by signals.
  void created();
  // Renames it, complete and closed, to its final name. Errors: Error.
  void publish();

 private:
  void release();

  std::string final_path_;
  std::string path_;
  bool existed_;
  bool created_ = false;
  bool published_ = false;
};

}  // namespace rotorquant::evaluation

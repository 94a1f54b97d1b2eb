#pragma once
// The HDF5 C library as owning handles and a few calls that throw. HDF5 keeps global state and need not be
// built thread-safe: every use of a handle, its closing included, happens under Session. Only identifiers
// that hdf5.h gives the same meaning from 1.10 to 2.x are used.
#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rotorquant::evaluation::hdf5 {

// Exclusive use of the HDF5 library by this thread (re-entrant), with the library's own printing of errors
// off: what reaches a person is one line of ours.
class Session {
 public:
  Session();

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

// Owns one HDF5 identifier.
template <herr_t (*Close)(hid_t)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Handle() { close(); }

  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  // Negative when the library could not complete the writing that closing implies.
  herr_t close() {
    if (id_ < 0) return 0;
    const Session session;
    return Close(std::exchange(id_, H5I_INVALID_HID));
  }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

using File = Handle<H5Fclose>;
using Group = Handle<H5Gclose>;
using Dataset = Handle<H5Dclose>;
using Dataspace = Handle<H5Sclose>;
using Datatype = Handle<H5Tclose>;
using Attribute = Handle<H5Aclose>;
using PropertyList = Handle<H5Pclose>;
using Object = Handle<H5Oclose>;

// The innermost reason of the last failed call, in parentheses with a leading space, or "" when there is
// none.
std::string last_error();

// Opens for reading. A missing, unreadable, foreign or damaged file is an Error that says which of these it
// is.
File open_file(const std::string& path);

enum class ObjectKind { missing, group, dataset, other };
// What `path` (absolute) names; `missing` also for a dangling link or a path through something that is not a
// group.
ObjectKind object_kind(const File& file, const std::string& path);

// Names of the links in a group, in the order of their names. Error (without a path) when it is damaged.
std::vector<std::string> children(const File& file, const std::string& group);

// Opens a dataset that object_kind has found. `chunk_cache_bytes` bounds the decompressed chunks that stay in
// memory while it is open (0: HDF5's default). Error (without a path) when it is damaged.
Dataset open_dataset(const File& file, const std::string& path, std::size_t chunk_cache_bytes = 0);
std::vector<std::int64_t> extents(const Dataset& dataset);  // [rank]; empty for a scalar or null dataset

// Names of the dataset's filters that this HDF5 library cannot undo.
std::vector<std::string> missing_filters(const Dataset& dataset);

// An attribute or dataset element of any integer, enumerated or floating-point type.
struct Number {
  double value = 0.0;
  bool integral = false;  // the stored type is an integer or enumeration, or the value has no fractional part
  std::int64_t integer = 0;  // meaningful when integral
};

// Attributes of the root group (`object` = "/") or of a dataset: scalars or arrays of one element.
// nullopt when it is absent; an Error with the reason (without a path) when it is of another kind.
std::optional<Number> number_attribute(const File& file, const std::string& object, const std::string& name);
std::optional<std::string> string_attribute(const File& file, const std::string& object,
                                            const std::string& name);

// All elements of a dataset of any integer or floating-point type, of rank 1. Error (without a path)
// otherwise.
std::vector<std::int64_t> read_integers(const Dataset& dataset);
std::vector<double> read_floats(const Dataset& dataset);

// "float32", "int16", "opaque of 2 bytes tagged 'x'": a stored type in words, for messages.
std::string type_name(const Datatype& type);

}  // namespace rotorquant::evaluation::hdf5

#include "evaluation/dump/hdf5.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation::hdf5 {
namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

// Doubles up to here are exact integers that fit an int64.
constexpr double largest_integral_double = 9007199254740992.0;  // 2^53

Attribute open_attribute(const File& file, const std::string& object, const std::string& name) {
  const Object owner(H5Oopen(file.get(), object.c_str(), H5P_DEFAULT));
  if (!owner || H5Aexists(owner.get(), name.c_str()) <= 0) return {};
  Attribute attribute(H5Aopen(owner.get(), name.c_str(), H5P_DEFAULT));
  if (!attribute) throw Error("cannot be read" + last_error());
  const Dataspace space(H5Aget_space(attribute.get()));
  const hssize_t count = H5Sget_simple_extent_npoints(space.get());
  if (count != 1) throw Error(fmt::format("has {} elements, expected one", count));
  return attribute;
}

Number to_number(double value) {
  Number number{.value = value};
  number.integral =
      std::isfinite(value) && std::abs(value) <= largest_integral_double && value == std::trunc(value);
  if (number.integral) number.integer = static_cast<std::int64_t>(value);
  return number;
}

std::string read_variable_string(const Attribute& attribute, const Datatype& type) {
  const Datatype memory_type(H5Tcopy(H5T_C_S1));
  H5Tset_size(memory_type.get(), H5T_VARIABLE);
  H5Tset_cset(memory_type.get(), H5Tget_cset(type.get()));
  char* text = nullptr;
  if (H5Aread(attribute.get(), memory_type.get(), &text) < 0) throw Error("cannot be read" + last_error());
  std::string result = text == nullptr ? "" : text;
  H5free_memory(text);
  return result;
}

std::string read_fixed_string(const Attribute& attribute, const Datatype& type) {
  std::string result(H5Tget_size(type.get()), '\0');
  if (H5Aread(attribute.get(), type.get(), result.data()) < 0) throw Error("cannot be read" + last_error());
  result.resize(std::strlen(result.c_str()));
  if (H5Tget_strpad(type.get()) == H5T_STR_SPACEPAD) result.resize(result.find_last_not_of(' ') + 1);
  return result;
}

std::int64_t vector_length(const Dataset& dataset) {
  const auto shape = extents(dataset);
  if (shape.size() != 1) throw Error(fmt::format("has rank {}, expected 1", shape.size()));
  return shape[0];
}

template <typename T>
std::vector<T> read_all(const Dataset& dataset, hid_t memory_type) {
  std::vector<T> values(static_cast<std::size_t>(vector_length(dataset)));
  if (!values.empty() &&
      H5Dread(dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
    throw Error("cannot be read" + last_error());
  }
  return values;
}

}  // namespace

Session::Session() : lock_(library_mutex()) {
  // Handles close files themselves. The library's own exit handler would write once more what a full disk
  // refused, and crash.
  static const bool without_exit_handler = H5dont_atexit() >= 0;
  static_cast<void>(without_exit_handler);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

std::string last_error() {
  std::string reason;
  const auto keep_first = [](unsigned depth, const H5E_error2_t* error, void* data) -> herr_t {
    if (depth == 0 && error->desc != nullptr) *static_cast<std::string*>(data) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  return reason.empty() ? "" : " (" + reason + ")";
}

File open_file(const std::string& path) {
  std::error_code status_error;
  const auto status = std::filesystem::status(path, status_error);
  if (!std::filesystem::exists(status)) throw Error(path + ": no such file");
  if (std::filesystem::is_directory(status)) throw Error(path + ": is a directory, expected an HDF5 file");
  const Session session;
  const PropertyList access(H5Pcreate(H5P_FILE_ACCESS));
#if H5_VERSION_GE(1, 10, 7)
  // Captures often lie on network file systems that refuse locks.
  H5Pset_file_locking(access.get(), true, true);
#endif
  File file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()));
  if (file) return file;
  const std::string reason = last_error();
#if H5_VERSION_GE(1, 12, 0)
  const htri_t is_hdf5 = H5Fis_accessible(path.c_str(), access.get());
#else
  const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
#endif
  if (is_hdf5 == 0) throw Error(path + ": not an HDF5 file");
  if (is_hdf5 < 0) throw Error(path + ": cannot be opened" + reason);
  throw Error(path + ": damaged or truncated HDF5 file" + reason);
}

ObjectKind object_kind(const File& file, const std::string& path) {
  const Session session;
  if (path == "/") return ObjectKind::group;
  // H5Lexists demands that all links but the last exist: walk.
  for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
    if (object_kind(file, path.substr(0, end)) != ObjectKind::group) return ObjectKind::missing;
  }
  if (H5Lexists(file.get(), path.c_str(), H5P_DEFAULT) <= 0) return ObjectKind::missing;
  const Object object(H5Oopen(file.get(), path.c_str(), H5P_DEFAULT));
  if (!object) return ObjectKind::missing;
  switch (H5Iget_type(object.get())) {
    case H5I_GROUP:
      return ObjectKind::group;
    case H5I_DATASET:
      return ObjectKind::dataset;
    default:
      return ObjectKind::other;
  }
}

std::vector<std::string> children(const File& file, const std::string& group_path) {
  const Session session;
  const Group group(H5Gopen2(file.get(), group_path.c_str(), H5P_DEFAULT));
  H5G_info_t info{};
  if (!group || H5Gget_info(group.get(), &info) < 0) throw Error("cannot be read" + last_error());
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const ssize_t length =
        H5Lget_name_by_idx(group.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, nullptr, 0, H5P_DEFAULT);
    if (length < 0) throw Error("cannot be read" + last_error());
    std::string name(static_cast<std::size_t>(length), '\0');
    H5Lget_name_by_idx(group.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, name.data(), name.size() + 1,
                       H5P_DEFAULT);
    names.push_back(std::move(name));
  }
  return names;
}

Dataset open_dataset(const File& file, const std::string& path, std::size_t chunk_cache_bytes) {
  const Session session;
  const PropertyList access(H5Pcreate(H5P_DATASET_ACCESS));
  if (chunk_cache_bytes > 0) {
    H5Pset_chunk_cache(access.get(), H5D_CHUNK_CACHE_NSLOTS_DEFAULT, chunk_cache_bytes,
                       H5D_CHUNK_CACHE_W0_DEFAULT);
  }
  Dataset dataset(H5Dopen2(file.get(), path.c_str(), access.get()));
  if (!dataset) throw Error("cannot be opened" + last_error());
  return dataset;
}

std::vector<std::int64_t> extents(const Dataset& dataset) {
  const Session session;
  const Dataspace space(H5Dget_space(dataset.get()));
  const int rank = H5Sget_simple_extent_ndims(space.get());
  std::vector<hsize_t> shape(static_cast<std::size_t>(rank > 0 ? rank : 0));
  if (!shape.empty()) H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr);
  return {shape.begin(), shape.end()};
}

std::vector<std::string> missing_filters(const Dataset& dataset) {
  const Session session;
  const PropertyList creation(H5Dget_create_plist(dataset.get()));
  std::vector<std::string> missing;
  for (int i = 0; i < H5Pget_nfilters(creation.get()); ++i) {
    char name[64] = "";
    std::size_t value_count = 0;
    unsigned flags = 0;
    unsigned config = 0;
    const H5Z_filter_t filter = H5Pget_filter2(creation.get(), static_cast<unsigned>(i), &flags, &value_count,
                                               nullptr, sizeof name, name, &config);
    if (H5Zfilter_avail(filter) <= 0)
      missing.push_back(fmt::format("{} (id {})", *name ? name : "unnamed", filter));
  }
  return missing;
}

std::optional<Number> number_attribute(const File& file, const std::string& object, const std::string& name) {
  const Session session;
  const Attribute attribute = open_attribute(file, object, name);
  if (!attribute) return std::nullopt;
  const Datatype type(H5Aget_type(attribute.get()));
  const H5T_class_t type_class = H5Tget_class(type.get());
  if (type_class == H5T_INTEGER || type_class == H5T_ENUM) {
    std::int64_t value = 0;
    if (H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0) throw Error("cannot be read" + last_error());
    return Number{.value = static_cast<double>(value), .integral = true, .integer = value};
  }
  if (type_class == H5T_FLOAT) {
    double value = 0.0;
    if (H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value) < 0) throw Error("cannot be read" + last_error());
    return to_number(value);
  }
  throw Error(fmt::format("is of type {}, expected a number", type_name(type)));
}

std::optional<std::string> string_attribute(const File& file, const std::string& object,
                                            const std::string& name) {
  const Session session;
  const Attribute attribute = open_attribute(file, object, name);
  if (!attribute) return std::nullopt;
  const Datatype type(H5Aget_type(attribute.get()));
  if (H5Tget_class(type.get()) != H5T_STRING) {
    throw Error(fmt::format("is of type {}, expected a string", type_name(type)));
  }
  return H5Tis_variable_str(type.get()) > 0 ? read_variable_string(attribute, type)
                                            : read_fixed_string(attribute, type);
}

std::vector<std::int64_t> read_integers(const Dataset& dataset) {
  const Session session;
  const Datatype type(H5Dget_type(dataset.get()));
  const H5T_class_t type_class = H5Tget_class(type.get());
  if (type_class == H5T_INTEGER) return read_all<std::int64_t>(dataset, H5T_NATIVE_INT64);
  if (type_class != H5T_FLOAT) throw Error(fmt::format("is of type {}, expected integers", type_name(type)));
  std::vector<std::int64_t> values;
  for (const double value : read_all<double>(dataset, H5T_NATIVE_DOUBLE)) {
    const Number number = to_number(value);
    if (!number.integral)
      throw Error(fmt::format("element {} is {}, expected an integer", values.size(), value));
    values.push_back(number.integer);
  }
  return values;
}

std::vector<double> read_floats(const Dataset& dataset) {
  const Session session;
  const Datatype type(H5Dget_type(dataset.get()));
  const H5T_class_t type_class = H5Tget_class(type.get());
  if (type_class != H5T_INTEGER && type_class != H5T_FLOAT) {
    throw Error(fmt::format("is of type {}, expected numbers", type_name(type)));
  }
  return read_all<double>(dataset, H5T_NATIVE_DOUBLE);
}

std::string type_name(const Datatype& type) {
  const Session session;
  const std::size_t size = H5Tget_size(type.get());
  switch (H5Tget_class(type.get())) {
    case H5T_INTEGER:
      return fmt::format("{}int{}", H5Tget_sign(type.get()) == H5T_SGN_NONE ? "u" : "", size * 8);
    case H5T_FLOAT:
      return fmt::format("float{}", size * 8);
    case H5T_STRING:
      return "string";
    case H5T_ENUM:
      return "enumeration";
    case H5T_COMPOUND:
      return "compound";
    case H5T_OPAQUE: {
      char* tag = H5Tget_tag(type.get());
      std::string name = fmt::format("opaque of {} bytes tagged '{}'", size, tag == nullptr ? "" : tag);
      H5free_memory(tag);
      return name;
    }
    default:
      return fmt::format("a type of {} bytes that is no number", size);
  }
}

}  // namespace rotorquant::evaluation::hdf5

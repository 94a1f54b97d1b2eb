#pragma once
// Reads fixtures: groups, and datasets of any numeric type converted to the element type asked for.
#include <hdf5.h>

#include <cstdint>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace rotorquant::test {

// Row-major; the first extent counts rows, the others together are columns.
template <typename T>
struct Array {
  std::vector<std::int64_t> shape;
  std::vector<T> values;

  std::int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  std::int64_t cols() const { return rows() == 0 ? 0 : static_cast<std::int64_t>(values.size()) / rows(); }
  const T* row(std::int64_t r) const { return values.data() + r * cols(); }
};

class Hdf5File {
 public:
  explicit Hdf5File(const std::string& path) : path_(path) {
    silence();
    file_ = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file_ < 0) throw std::runtime_error(path + ": not a readable HDF5 file");
  }
  ~Hdf5File() { H5Fclose(file_); }
  Hdf5File(const Hdf5File&) = delete;
  Hdf5File& operator=(const Hdf5File&) = delete;

  const std::string& path() const { return path_; }

  // Names of the links in a group, in alphabetical order.
  std::vector<std::string> children(const std::string& group) const {
    const hid_t id = checked(H5Gopen2(file_, group.c_str(), H5P_DEFAULT), group);
    std::vector<std::string> names;
    const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
      static_cast<std::vector<std::string>*>(out)->emplace_back(name);
      return 0;
    };
    H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &names);
    H5Gclose(id);
    return names;
  }

  bool is_group(const std::string& path) const {
    const hid_t id = H5Oopen(file_, path.c_str(), H5P_DEFAULT);
    if (id < 0) return false;
    const bool group = H5Iget_type(id) == H5I_GROUP;
    H5Oclose(id);
    return group;
  }

  bool has(const std::string& path) const {
    const hid_t id = H5Oopen(file_, path.c_str(), H5P_DEFAULT);
    if (id >= 0) H5Oclose(id);
    return id >= 0;
  }

  template <typename T>
  Array<T> read(const std::string& path) const {
    const hid_t dataset = checked(H5Dopen2(file_, path.c_str(), H5P_DEFAULT), path);
    const hid_t space = H5Dget_space(dataset);
    std::vector<hsize_t> extents(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
    H5Sget_simple_extent_dims(space, extents.data(), nullptr);
    Array<T> array;
    array.shape.assign(extents.begin(), extents.end());
    array.values.resize(
        std::accumulate(extents.begin(), extents.end(), std::size_t{1}, std::multiplies<std::size_t>()));
    const herr_t status =
        H5Dread(dataset, native_type(T{}), H5S_ALL, H5S_ALL, H5P_DEFAULT, array.values.data());
    H5Sclose(space);
    H5Dclose(dataset);
    checked(status, path);
    return array;
  }

 private:
  static hid_t native_type(float) { return H5T_NATIVE_FLOAT; }
  static hid_t native_type(double) { return H5T_NATIVE_DOUBLE; }
  static hid_t native_type(std::int32_t) { return H5T_NATIVE_INT32; }
  static hid_t native_type(std::uint8_t) { return H5T_NATIVE_UINT8; }

  // has() and is_group() ask about paths that may not exist.
  static void silence() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

  template <typename Id>
  Id checked(Id id, const std::string& path) const {
    if (id < 0) throw std::runtime_error(path_ + ": cannot read " + path);
    return id;
  }

  std::string path_;
  hid_t file_ = H5I_INVALID_HID;
};

}  // namespace rotorquant::test

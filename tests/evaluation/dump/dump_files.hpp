#pragma once
// HDF5 files for tests, made with the C API alone, so that the reader is not tested against our writer.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "evaluation/dump/hdf5.hpp"

namespace rotorquant::evaluation::testing {

// A path of this test process that is removed at the end, with what lies beside it under PATH.partial.
class TempPath {
 public:
  explicit TempPath(const std::string& name)
      : path_(::testing::TempDir() + "rotorquant_" + std::to_string(::getpid()) + "_" + name) {}
  TempPath(const TempPath&) = delete;
  TempPath& operator=(const TempPath&) = delete;
  ~TempPath() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
    std::filesystem::remove(path_ + ".partial", ignored);
  }
  const std::string& str() const { return path_; }

 private:
  std::string path_;
};

inline std::string file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Little-endian floating-point type of 16 bits.
inline hdf5::Datatype two_byte_float(std::size_t exponent_bits, std::size_t mantissa_bits, std::size_t bias) {
  hdf5::Datatype type(H5Tcopy(H5T_IEEE_F32LE));
  H5Tset_fields(type.get(), 15, mantissa_bits, exponent_bits, 0, mantissa_bits);
  H5Tset_precision(type.get(), 16);
  H5Tset_size(type.get(), 2);
  H5Tset_ebias(type.get(), bias);
  return type;
}
inline hdf5::Datatype half_type() {
  return two_byte_float(5, 10, 15);
}
inline hdf5::Datatype bfloat16_type() {
  return two_byte_float(8, 7, 127);
}
inline hdf5::Datatype opaque_type(std::size_t size, const char* tag) {
  hdf5::Datatype type(H5Tcreate(H5T_OPAQUE, size));
  H5Tset_tag(type.get(), tag);
  return type;
}

// Creates or changes a file; objects that exist are replaced.
class FileEditor {
 public:
  enum class Mode { create, edit };
  FileEditor(const std::string& path, Mode mode)
      : file_(mode == Mode::create ? H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)
                                   : H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)) {}

  hid_t id() const { return file_.get(); }

  void remove(const std::string& path) { H5Ldelete(id(), path.c_str(), H5P_DEFAULT); }
  void remove_attribute(const std::string& name, const std::string& object = "/") {
    if (H5Aexists_by_name(id(), object.c_str(), name.c_str(), H5P_DEFAULT) > 0) {
      H5Adelete_by_name(id(), object.c_str(), name.c_str(), H5P_DEFAULT);
    }
  }

  // `shape` empty: a scalar.
  void attribute(const std::string& name, hid_t type, hid_t memory_type, const void* value,
                 const std::vector<hsize_t>& shape = {}, const std::string& object = "/") {
    remove_attribute(name, object);
    const hdf5::Dataspace space(
        shape.empty() ? H5Screate(H5S_SCALAR)
                      : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr));
    const hdf5::Attribute attribute(H5Acreate_by_name(id(), object.c_str(), name.c_str(), type, space.get(),
                                                      H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    ASSERT_GE(H5Awrite(attribute.get(), memory_type, value), 0);
  }
  void attribute(const std::string& name, std::int64_t value) {
    attribute(name, H5T_STD_I32LE, H5T_NATIVE_INT64, &value);
  }
  void attribute(const std::string& name, double value) {
    attribute(name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
  }
  void attribute(const std::string& name, const std::string& value, const std::string& object = "/") {
    const hdf5::Datatype type(H5Tcopy(H5T_C_S1));
    H5Tset_size(type.get(), value.size());
    H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
    attribute(name, type.get(), type.get(), value.data(), {}, object);
  }

  void group(const std::string& path) {
    hdf5::Group(H5Gcreate2(id(), path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  }

  // Missing groups are made. `chunk` empty: contiguous; otherwise shuffled and deflated.
  void dataset(const std::string& path, const std::vector<hsize_t>& shape, hid_t type, hid_t memory_type,
               const void* data, const std::vector<hsize_t>& chunk = {}) {
    if (H5Lexists(id(), parent(path).c_str(), H5P_DEFAULT) > 0 &&
        H5Lexists(id(), path.c_str(), H5P_DEFAULT) > 0) {
      remove(path);
    }
    const hdf5::PropertyList links(H5Pcreate(H5P_LINK_CREATE));
    H5Pset_create_intermediate_group(links.get(), 1);
    const hdf5::PropertyList creation(H5Pcreate(H5P_DATASET_CREATE));
    if (!chunk.empty()) {
      H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data());
      H5Pset_shuffle(creation.get());
      H5Pset_deflate(creation.get(), 6);
    }
    const hdf5::Dataspace space(
        shape.empty() ? H5Screate(H5S_SCALAR)
                      : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr));
    const hdf5::Dataset dataset(
        H5Dcreate2(id(), path.c_str(), type, space.get(), links.get(), creation.get(), H5P_DEFAULT));
    ASSERT_TRUE(static_cast<bool>(dataset)) << path;
    if (data != nullptr) {
      ASSERT_GE(H5Dwrite(dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), 0) << path;
    }
  }
  void floats(const std::string& path, const std::vector<hsize_t>& shape, const std::vector<float>& values) {
    dataset(path, shape, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values.data());
  }
  void integers(const std::string& path, const std::vector<std::int64_t>& values) {
    dataset(path, {values.size()}, H5T_STD_I32LE, H5T_NATIVE_INT64, values.data());
  }

  // Overwrites one element of a dataset [heads, rows, channels].
  void poke(const std::string& path, hsize_t head, hsize_t row, hsize_t channel, double value) {
    const hdf5::Dataset dataset(H5Dopen2(id(), path.c_str(), H5P_DEFAULT));
    const hdf5::Dataspace space(H5Dget_space(dataset.get()));
    const hsize_t at[] = {head, row, channel};
    H5Sselect_elements(space.get(), H5S_SELECT_SET, 1, at);
    const hdf5::Dataspace scalar(H5Screate(H5S_SCALAR));
    ASSERT_GE(H5Dwrite(dataset.get(), H5T_NATIVE_DOUBLE, scalar.get(), space.get(), H5P_DEFAULT, &value), 0);
  }

 private:
  static std::string parent(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == 0 ? "/" : path.substr(0, slash);
  }

  hdf5::File file_;
};

// The numbers of a small valid dump: layers 5 and 7 of 8, float32.
struct SmallDump {
  hsize_t kv_heads = 2;
  hsize_t query_heads = 4;
  hsize_t tokens = 6;
  hsize_t queries = 6;
  hsize_t head_dim = 4;
  hsize_t value_dim = 3;
  std::vector<std::int64_t> layers = {5, 7};

  // Element (layer, head, row, channel) of a tensor, unique and exact in float16 for the sizes of these
  // tests.
  static float element(char tensor, std::int64_t layer, hsize_t head, hsize_t row, hsize_t channel) {
    const double sign = tensor == 'q' ? -1.0 : 1.0;
    const double base = tensor == 'v' ? 1024.0 : 0.0;
    return static_cast<float>(sign * (base + static_cast<double>(layer) + 64.0 * static_cast<double>(head) +
                                      8.0 * static_cast<double>(row) + 0.5 * static_cast<double>(channel)));
  }
  static std::vector<float> slab(char tensor, std::int64_t layer, hsize_t head, hsize_t rows,
                                 hsize_t channels) {
    std::vector<float> values;
    for (hsize_t r = 0; r < rows; ++r) {
      for (hsize_t c = 0; c < channels; ++c) values.push_back(element(tensor, layer, head, r, c));
    }
    return values;
  }
  static std::vector<float> tensor(char name, std::int64_t layer, hsize_t heads, hsize_t rows,
                                   hsize_t channels) {
    std::vector<float> values;
    for (hsize_t h = 0; h < heads; ++h) {
      const std::vector<float> head = slab(name, layer, h, rows, channels);
      values.insert(values.end(), head.begin(), head.end());
    }
    return values;
  }

  void write_attributes(FileEditor& file) const {
    file.attribute("format", std::string("rotorquant-kv"));
    file.attribute("format_version", std::int64_t{1});
    file.attribute("model", std::string("a small model"));
    file.attribute("num_layers", std::int64_t{8});
    file.attribute("num_query_heads", static_cast<std::int64_t>(query_heads));
    file.attribute("num_kv_heads", static_cast<std::int64_t>(kv_heads));
    file.attribute("head_dim", static_cast<std::int64_t>(head_dim));
    file.attribute("rope_stage", std::string("post"));
    file.attribute("rope_theta", 10000.0);
    file.attribute("rope_layout", std::string("half"));
    file.attribute("rotary_dim", static_cast<std::int64_t>(head_dim));
    file.attribute("softmax_scale", 0.5);
    file.attribute("causal", std::int64_t{1});
    file.attribute("source", std::string("numbers"));
  }
  void write(const std::string& path) const {
    FileEditor file(path, FileEditor::Mode::create);
    write_attributes(file);
    for (const std::int64_t layer : layers) {
      const std::string group = "/layers/00" + std::to_string(layer);
      file.floats(group + "/key", {kv_heads, tokens, head_dim},
                  tensor('k', layer, kv_heads, tokens, head_dim));
      file.floats(group + "/value", {kv_heads, tokens, value_dim},
                  tensor('v', layer, kv_heads, tokens, value_dim));
      file.floats(group + "/query", {query_heads, queries, head_dim},
                  tensor('q', layer, query_heads, queries, head_dim));
    }
  }
};

}  // namespace rotorquant::evaluation::testing

// Codes rows with a quantizer of the registry, for comparisons with other people's implementations:
//   encode_rows SPEC BITS SEED DIM FOLDER
// reads FOLDER/rows.f32 [n, DIM] and writes there, as raw little-endian arrays, codes.u8 (the arrays of the
// layout, one after the other), decoded.f32 [n, DIM] and, for quantizers with a rotation R, rotated.f32 [n,
// rotated dim]: R x of each row.
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "rotorquant/quantizers/rotated_codec.hpp"
#include "support/samples.hpp"

namespace {

using rotorquant::test::Matrix;

template <typename T>
void write(const std::filesystem::path& path, const std::vector<T>& values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(T)));
}

Matrix read_rows(const std::filesystem::path& path, std::int64_t dim) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  Matrix rows(static_cast<std::int64_t>(bytes.size() / sizeof(float)) / dim, dim);
  std::memcpy(rows.values.data(), bytes.data(), rows.values.size() * sizeof(float));
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fputs("usage: encode_rows SPEC BITS SEED DIM FOLDER\n", stderr);
    return 2;
  }
  try {
    const std::int64_t dim = std::stoll(argv[4]);
    const std::filesystem::path folder = argv[5];
    const auto quantizer = rotorquant::test::build(argv[1], std::stoi(argv[2]), dim, std::stoull(argv[3]));
    const Matrix rows = read_rows(folder / "rows.f32", dim);
    const rotorquant::CodeBuffer codes = rotorquant::test::encode(*quantizer, rows);
    write(folder / "codes.u8", rotorquant::test::bytes_of(*quantizer, codes));
    write(folder / "decoded.f32", rotorquant::test::decode(*quantizer, codes).values);
    if (const auto* codec = dynamic_cast<const rotorquant::RotatedCodec*>(quantizer.get())) {
      Matrix rotated(rows.rows, codec->rotation().output_dim());
      codec->rotation().apply(rows.view(), rotated.view());
      write(folder / "rotated.f32", rotated.values);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "encode_rows: %s\n", error.what());
    return 1;
  }
  return 0;
}

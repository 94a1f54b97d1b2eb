#pragma once
// Number types of keys and values as caches hold them, and views that carry theirs at run time.
#include <cstdint>
#include <string_view>

namespace rotorquant {

enum class ElementType { float16, bfloat16, float32 };

constexpr std::int64_t element_bytes(ElementType type) {
  return type == ElementType::float32 ? 4 : 2;
}

constexpr std::string_view element_type_name(ElementType type) {
  switch (type) {
    case ElementType::float16:
      return "fp16";
    case ElementType::bfloat16:
      return "bf16";
    case ElementType::float32:
      return "fp32";
  }
  return "unknown";
}

// [rows, cols] numbers of one type in host memory, row-major, contiguous.
struct ConstHostTensor {
  const void* data = nullptr;
  ElementType type = ElementType::float32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  const std::uint8_t* row(std::int64_t r) const {
    return static_cast<const std::uint8_t*>(data) + r * cols * element_bytes(type);
  }
  ConstHostTensor row_range(std::int64_t begin, std::int64_t count) const {
    return {row(begin), type, count, cols};
  }
};
struct HostTensor {
  void* data = nullptr;
  ElementType type = ElementType::float32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  std::uint8_t* row(std::int64_t r) const {
    return static_cast<std::uint8_t*>(data) + r * cols * element_bytes(type);
  }
  HostTensor row_range(std::int64_t begin, std::int64_t count) const {
    return {row(begin), type, count, cols};
  }
};

// body<type>() for the run-time type.
template <typename Body>
void dispatch_type(ElementType type, const Body& body) {
  switch (type) {
    case ElementType::float16:
      return body.template operator()<ElementType::float16>();
    case ElementType::bfloat16:
      return body.template operator()<ElementType::bfloat16>();
    case ElementType::float32:
      return body.template operator()<ElementType::float32>();
  }
}

}  // namespace rotorquant

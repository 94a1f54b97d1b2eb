#include "evaluation/bench/cublas.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// Values of cuBLAS's enumerations (cublas_api.h, library_types.h), which are part of its binary interface.
constexpr int no_transpose = 0, transpose = 1;
constexpr int compute_float32 = 68;
constexpr int default_algorithm = -1;

int data_type(rotorquant::ElementType type) {
  switch (type) {
    case rotorquant::ElementType::float16:
      return 2;
    case rotorquant::ElementType::bfloat16:
      return 14;
    case rotorquant::ElementType::float32:
      return 0;
  }
  return 0;
}

void check(int status, const char* what) {
  if (status != 0) throw Error(fmt::format("cuBLAS: {} failed with status {}", what, status));
}

}  // namespace

struct CublasRotation::Library {
  int (*create)(void** handle);
  int (*destroy)(void* handle);
  int (*gemm)(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
              int type_a, int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type_c,
              int ldc, int compute, int algorithm);

  static const Library& get() {
    static const Library library = load();
    return library;
  }

 private:
  static Library load() {
    void* opened = nullptr;
    for (const char* const name : {"libcublas.so", "libcublas.so.13", "libcublas.so.12"}) {
      opened = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (opened != nullptr) break;
    }
    if (opened == nullptr)
      throw Error("no cuBLAS on this machine; valid: libcublas.so where libraries are looked for");
    Library library{};
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(opened, name));
      if (function == nullptr) throw Error(fmt::format("cuBLAS: no function {}", name));
    };
    find(library.create, "cublasCreate_v2");
    find(library.destroy, "cublasDestroy_v2");
    find(library.gemm, "cublasGemmEx");
    return library;
  }
};

CublasRotation::CublasRotation() : library_(Library::get()) {
  check(library_.create(&handle_), "start");
}

CublasRotation::~CublasRotation() {
  library_.destroy(handle_);
}

void CublasRotation::apply(const void* matrix, const void* x, void* y, rotorquant::ElementType type,
                           std::int64_t rows, std::int64_t dim) const {
  // To cuBLAS, whose matrices are column-major, the arrays are R^T [dim, dim], X^T and Y^T [dim, rows]: Y^T =
  // (R^T)^T X^T.
  const float one = 1.0F, zero = 0.0F;
  const int element = data_type(type), d = static_cast<int>(dim);
  check(library_.gemm(handle_, transpose, no_transpose, d, static_cast<int>(rows), d, &one, matrix, element,
                      d, x, element, d, &zero, y, element, d, compute_float32, default_algorithm),
        "matrix product");
}

}  // namespace rotorquant::evaluation

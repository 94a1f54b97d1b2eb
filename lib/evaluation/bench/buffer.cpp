#include "evaluation/bench/buffer.hpp"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace rotorquant::evaluation {
namespace {

constexpr std::int64_t huge_page = 2 << 20;  // bytes

}  // namespace

BenchBuffer::BenchBuffer(const Context& context, std::int64_t bytes) : bytes_(bytes) {
  const std::int64_t pages = (bytes + huge_page - 1) / huge_page;
  const auto size = static_cast<std::size_t>(pages * huge_page);
  data_.reset(static_cast<std::uint8_t*>(std::aligned_alloc(huge_page, size)));
  if (!data_) throw std::bad_alloc();
  madvise(data_.get(), size, MADV_HUGEPAGE);  // a wish: small pages work too
  parallel_for(context, pages,
               [&](std::int64_t page) { std::memset(data_.get() + page * huge_page, 0, huge_page); });
}

}  // namespace rotorquant::evaluation

#pragma once
// Tiles of 32 rows that one warp moves between global and shared memory, 16 bytes a lane and access.
#include <cstdint>

#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

// Copies 16 bytes to shared memory in the background, as part of the next group that commit_copies closes; `valid`
// false writes zeros.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid = true) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Of 16 bytes to shared memory those that are `there`, the rest zeros: in the background if all or none are.
__device__ __forceinline__ void copy_async_part(void* shared, const void* from, std::int64_t there) {
  if (there >= 16 || there <= 0) {
    copy_async_16(shared, from, there > 0);
    return;
  }
  for (int i = 0; i < 16; ++i) {
    static_cast<std::uint8_t*>(shared)[i] =
        i < there ? static_cast<const std::uint8_t*>(from)[i] : std::uint8_t{0};
  }
}

// `bytes` bytes of shared memory from `from` on, of which `there` exist, the rest zeros; both begin at multiples of 16 bytes.
// A part of the next group of background copies by one warp.
template <int bytes>
__device__ __forceinline__ void fetch_rows(std::uint8_t* shared, const std::uint8_t* from,
                                           std::int64_t there) {
#pragma unroll
  for (int j = 0; j < bytes; j += 16 * warp_size) {
    const int at = j + 16 * static_cast<int>(threadIdx.x % warp_size);
    if (at >= bytes) break;
    copy_async_part(shared + at, there > at ? from + at : from, there - at);
  }
}

// Rows of `chunks` times 16 bytes; in shared memory an odd number of chunks lies between rows, so that eight lanes that
// read one chunk of their rows touch all 32 banks.
template <int chunks>
struct RowTile {
  static constexpr int pitch = chunks | 1;
  static constexpr int bytes = warp_size * pitch * 16;

  // One group of background copies. global: the tile's first row. Rows from `count` on become zeros.
  static __device__ __forceinline__ void fetch(uint4* shared, const uint4* global, int count) {
#pragma unroll
    for (int j = 0; j < chunks; ++j) {
      const int i = static_cast<int>(threadIdx.x % warp_size) + warp_size * j;
      const int row = i / chunks;
      copy_async_16(shared + row * pitch + i % chunks, row < count ? global + i : global, row < count);
    }
    commit_copies();
  }
  static __device__ __forceinline__ void store(const uint4* shared, uint4* global, int count) {
#pragma unroll
    for (int j = 0; j < chunks; ++j) {
      const int i = static_cast<int>(threadIdx.x % warp_size) + warp_size * j;
      const int row = i / chunks;
      if (row < count) __stcs(global + i, shared[row * pitch + i % chunks]);
    }
  }
};

// 32 rows of `row_bytes` bytes each, packed in shared memory as they are in global memory. A whole tile is a multiple
// of 16 bytes if row_bytes is even; the last one may not be.
template <int row_bytes>
struct PackedTile {
  static_assert(row_bytes % 2 == 0);
  static constexpr int bytes = warp_size * row_bytes;
  static constexpr int chunks = bytes / 16;

  static __device__ __forceinline__ void fetch(std::uint8_t* shared, const std::uint8_t* global, int count) {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    if (count == warp_size) {
#pragma unroll
      for (int i = 0; i < chunks; i += warp_size) {
        if (i + lane < chunks) copy_async_16(shared + 16 * (i + lane), global + 16 * (i + lane));
      }
      commit_copies();
    } else {
      for (int i = lane; i < count * row_bytes; i += warp_size) shared[i] = global[i];
    }
  }
  static __device__ __forceinline__ void store(const std::uint8_t* shared, std::uint8_t* global, int count) {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    if (count == warp_size) {
#pragma unroll
      for (int i = 0; i < chunks; i += warp_size) {
        if (i + lane < chunks) {
          reinterpret_cast<uint4*>(global)[i + lane] = reinterpret_cast<const uint4*>(shared)[i + lane];
        }
      }
    } else {
      for (int i = lane; i < count * row_bytes; i += warp_size) global[i] = shared[i];
    }
  }
};

}  // namespace rotorquant::device

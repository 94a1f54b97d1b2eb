#pragma once
// Tiles of 32 rows that one warp moves between global and shared memory, 16 bytes a lane and access.
#include <cstdint>

#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

// Copies 16 bytes to shared memory in the background, as part of the next group that commit_copies closes;
// `valid` false writes zeros.
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

// `bytes` bytes of shared memory from `from` on, of which `there` exist, the rest zeros; both begin at
// multiples of 16 bytes. A part of the next group of background copies by one warp.
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

// `rows` rows of `chunks` times 16 bytes; in shared memory an odd number of chunks lies between rows, so that
// eight lanes that read one chunk of their rows touch all 32 banks.
template <int rows, int chunks>
struct RowTile {
  static constexpr int pitch = 16 * (chunks | 1);
  static constexpr int bytes = rows * pitch;
  static_assert(rows * chunks % warp_size == 0);

  // One group of background copies. global: the tile's first row, of which `count` exist.
  static __device__ __forceinline__ void fetch(std::uint8_t* shared, const std::uint8_t* global, int count) {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    const std::uint8_t* const from = global + 16 * lane;
    if (count == rows) {
#pragma unroll
      for (int j = 0; j < rows * chunks / warp_size; ++j) {
        // Where whole rows lie between a lane's chunks, at a constant distance.
        const int at = warp_size % chunks == 0 ? place(lane) + j * (warp_size / chunks) * pitch
                                               : place(lane + warp_size * j);
        copy_async_16(shared + at, from + 16 * warp_size * j);
      }
    } else {
      for (int i = lane; i < count * chunks; i += warp_size)
        copy_async_16(shared + place(i), global + 16 * i);
    }
    commit_copies();
  }

 private:
  static __device__ __forceinline__ int place(int i) {
    return i / chunks * pitch + i % chunks * 16;
  }
};

// `rows` rows of `row_bytes` bytes each, packed in shared memory as they are in global memory. A whole tile
// is a multiple of 16 bytes; the last one may not be.
template <int rows, int row_bytes>
struct PackedTile {
  static constexpr int bytes = rows * row_bytes;
  static constexpr int chunks = bytes / 16;
  static_assert(bytes % 16 == 0);

  static __device__ __forceinline__ void store(const std::uint8_t* shared, std::uint8_t* global, int count) {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    if (count == rows) {
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

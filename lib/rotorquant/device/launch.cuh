#pragma once
// Launches of kernels over tiles of rows, a tile a block.
#include <limits>

#include "rotorquant/device/rotation.cuh"
#include "rotorquant/device/runtime.cuh"

namespace rotorquant::device {

// Dynamic shared memory beyond this must be asked for.
inline constexpr std::size_t default_shared_bytes = 48 << 10;

// Lets launches of a kernel use all that the current GPU has for a block: no less, as other launches of it,
// by other threads or for other dimensions, may need more than these bytes.
template <typename Kernel>
void allow_shared_memory(const char* name, Kernel kernel, std::size_t bytes) {
  if (bytes <= default_shared_bytes) return;
  int gpu = 0, most = 0;
  cudaFuncAttributes attributes{};
  check(cudaGetDevice(&gpu), "choice of a GPU");
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, gpu), "look-up of the GPU");
  check(cudaFuncGetAttributes(&attributes, kernel), name);
  most -= static_cast<int>(attributes.sharedSizeBytes);
  if (bytes > static_cast<std::size_t>(most)) {
    throw Error(std::string(name) + ": needs " + std::to_string(bytes) +
                " bytes of shared memory a block; valid on this GPU: up to " + std::to_string(most));
  }
  if (attributes.maxDynamicSharedSizeBytes >= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), name);
}

// Blocks of a persistent kernel that the current GPU holds at a time.
template <typename Kernel>
int resident_blocks(const char* name, Kernel kernel, int threads, std::size_t shared_bytes) {
  allow_shared_memory(name, kernel, shared_bytes);
  int gpu = 0, processors = 0, blocks = 0;
  check(cudaGetDevice(&gpu), "choice of a GPU");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, gpu), "look-up of the GPU");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes), name);
  return processors * blocks;
}

template <typename... Parameters, typename... Arguments>
void launch_tiles(const char* name, void (*kernel)(Parameters...), cudaStream_t stream, std::int64_t rows,
                  int tile_rows, int warps, std::size_t shared_bytes, const Arguments&... arguments) {
  if (rows == 0) return;
  const std::int64_t blocks = (rows + tile_rows - 1) / tile_rows;
  if (blocks > std::numeric_limits<std::int32_t>::max()) {
    throw Error(std::string(name) + ": " + std::to_string(rows) + " vectors in one call; valid: up to 2^36");
  }
  allow_shared_memory(name, kernel, shared_bytes);
  kernel<<<static_cast<unsigned>(blocks), warps * warp_size, shared_bytes, stream>>>(arguments...);
  check_launch(name);
}

// With one warp for 32 rows.
template <typename... Parameters, typename... Arguments>
void launch_rows(const char* name, void (*kernel)(Parameters...), cudaStream_t stream, std::int64_t rows,
                 std::size_t shared_bytes, const Arguments&... arguments) {
  launch_tiles(name, kernel, stream, rows, warp_size, 1, shared_bytes, arguments...);
}

}  // namespace rotorquant::device

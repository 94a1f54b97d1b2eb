#include "rotorquant/device/calibrated_key_encoder.cuh"
#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/refusals.cuh"

namespace rotorquant::device {
namespace {

// searches: more than the nearest centroid and scale (CalibratedSearch).
template <typename T>
__global__ void encode_kernel(const __grid_constant__ CalibratedView codec, bool searches, const T* x,
                              std::int64_t n, std::uint8_t* codes, unsigned long long* refusals) {
  extern __shared__ uint4 memory[];
  const CalibratedTile tile(codec, true);
  const CalibratedArrays arrays(tile, reinterpret_cast<std::uint8_t*>(memory));
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  arrays.load_tables(codec);
  unsigned infinite = 0;  // rows, a bit each
  for (int begin = 0; begin < codec.dim; begin += warp_size) {
    const int c = begin + static_cast<int>(threadIdx.x);
    const float moved = c < codec.dim ? __ldg(codec.shift + c) : 0.0F;
#pragma unroll 8
    for (int r = 0; r < warp_size; ++r) {
      if (r >= count || c >= codec.dim) continue;
      const float value = to_float(x[(first + r) * codec.dim + c]);
      infinite |= isfinite(value) != 0 ? 0U : 1U << r;
      arrays.columns[c * column_pitch + r] = __fsub_rn(value, moved);
    }
  }
  infinite = __reduce_or_sync(0xFFFFFFFFU, infinite);
  if (infinite >> threadIdx.x & 1U) refuse(refusals, first + threadIdx.x, Refusal::value);
  __syncwarp();
  if (static_cast<int>(threadIdx.x) < count) {
    const KeyEncoder encoder(codec, arrays);
    if (!encoder.transform()) refuse(refusals, first + threadIdx.x, Refusal::transform);
    const KeyChoice choice = searches ? encoder.cheapest() : encoder.nearest();
    if (searches && !(choice.cost < INFINITY)) refuse(refusals, first + threadIdx.x, Refusal::cost);
    encoder.find_symbols(choice);
    encoder.write(choice);
  }
  __syncwarp();
  copy_codes(arrays.codes, codes + first * codec.code_bytes, codec.code_bytes, count);
}

}  // namespace

void encode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec, const ConstDeviceTensor& x,
                            std::uint8_t* codes, unsigned long long* refusals) {
  const bool searches = codec.centroid_choices > 0 || codec.scale_radius > 0 || codec.descent_sweeps > 0;
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("encode", encode_kernel<T>, stream, x.rows, CalibratedTile(codec, true).bytes(), codec,
                searches, static_cast<const T*>(x.data), x.rows, codes, refusals);
  });
}

}  // namespace rotorquant::device

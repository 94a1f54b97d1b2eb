#include "rotorquant/device/calibrated_pairs.cuh"
#include "rotorquant/device/calibrated_symbols.cuh"
#include "rotorquant/device/launch.cuh"

namespace rotorquant::device {
namespace {

// searches: more than the nearest centroid and scale (CalibratedSearch).
template <typename T>
__global__ void encode_kernel(const __grid_constant__ CalibratedView codec, bool searches, const T* x,
                              std::int64_t n, std::uint8_t* codes, unsigned long long* refusals) {
  extern __shared__ uint4 memory[];
  const CalibratedArrays arrays = CalibratedTile(codec).at(memory);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  arrays.load_tables(codec);
  load_shifted(codec, x, first, count, arrays.columns, refusals);
  if (static_cast<int>(threadIdx.x) < count) {
    const PairSearch pairs(codec, arrays);
    if (!pairs.transform()) refuse(refusals, first + threadIdx.x, Refusal::transform);
    const KeyChoice choice = searches ? pairs.cheapest() : pairs.nearest();
    if (searches && !(choice.cost < INFINITY)) refuse(refusals, first + threadIdx.x, Refusal::cost);
    const SymbolSearch symbols(codec, arrays);
    symbols.find(choice);
    symbols.write(choice);
  }
  __syncwarp();
  copy_codes<warp_size>(arrays.codes, codes + first * codec.code_bytes, codec.code_bytes, count);
}

}  // namespace

void encode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec, const ConstDeviceTensor& x,
                            std::uint8_t* codes, unsigned long long* refusals) {
  const bool searches = codec.centroid_choices > 0 || codec.scale_radius > 0 || codec.descent_sweeps > 0;
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("encode", encode_kernel<T>, stream, x.rows, CalibratedTile(codec).bytes(), codec, searches,
                static_cast<const T*>(x.data), x.rows, codes, refusals);
  });
}

}  // namespace rotorquant::device

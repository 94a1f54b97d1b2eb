#include "rotorquant/device/calibrated_pairs.cuh"
#include "rotorquant/device/calibrated_trellis_encode.cuh"
#include "rotorquant/device/calibrated_trellis_search.cuh"
#include "rotorquant/device/launch.cuh"

namespace rotorquant::device {
namespace {

constexpr int most_warps = 16;  // a block

// What a block has in shared memory, in words of 4 bytes: for all of its time the trellis' tables, its keys
// after the transform and their best pairs; then what is needed for these, and in the same place what each
// warp needs for its search.
struct EncodeLayout {
  TrellisWarpLayout warp;
  int values, rows, factors;
  int columns;  // of 32 keys
  int pairs;    // [candidates, 32]
  int choices;  // [tried centroids, 32]
  int costs;    // [tried centroids, scale codes, 32]

  __host__ __device__ EncodeLayout(const CalibratedView& codec, const CalibratedTrellisView& t)
      : warp(codec.dim, t),
        values((t.shared_values + 3) / 4 * 4),
        rows(2 * t.shared_rows),
        factors(t.shared_factors ? t.factor_count : 0),
        columns(((codec.dim + spare_slots) * column_pitch + 3) / 4 * 4),
        pairs(t.candidates * warp_size),
        choices(codec.tried_centroids() * warp_size),
        costs((2 * codec.scale_radius + 1) * choices) {}

  __host__ __device__ int pair_offset() const { return values + rows + factors + columns; }
  // Pairs, then how many, of each key.
  __host__ __device__ int warp_offset() const { return (pair_offset() + pairs + warp_size + 3) / 4 * 4; }
  std::size_t bytes(int warps) const {
    const int searched = warps * warp.words();
    const int before = 2 * level_table + columns + 2 * choices + costs + pairs;
    return 4U * static_cast<std::size_t>(warp_offset() + (searched > before ? searched : before));
  }
};

// A key's best pairs in the order of their costs, of equal ones those that came first; number i at
// [i warp_size].
struct PairList {
  float* costs;
  int* pairs;
  int most;
  int count = 0;

  __device__ void offer(const KeyChoice& choice) {
    if (!(choice.cost < INFINITY)) return;
    int place = count;
    for (; place > 0 && choice.cost < costs[(place - 1) * warp_size]; --place) {
      if (place == most) continue;
      costs[place * warp_size] = costs[(place - 1) * warp_size];
      pairs[place * warp_size] = pairs[(place - 1) * warp_size];
    }
    if (place == most) return;
    costs[place * warp_size] = choice.cost;
    pairs[place * warp_size] = choice.pack();
    count = min(count + 1, most);
  }
};

__device__ void load_elements(const CalibratedView& codec, ElementType type, const void* x,
                              std::int64_t first, int count, float* columns, unsigned long long* refusals) {
  switch (type) {
    case ElementType::float16:
      return load_shifted(codec, static_cast<const __half*>(x), first, count, columns, refusals);
    case ElementType::bfloat16:
      return load_shifted(codec, static_cast<const __nv_bfloat16*>(x), first, count, columns, refusals);
    case ElementType::float32:
      return load_shifted(codec, static_cast<const float*>(x), first, count, columns, refusals);
  }
}

// The code of a key at this choice, by a warp; `words` are scratch for it.
template <int memory>
__device__ void write_code(const CalibratedView& codec, const KeyChoice& choice, const std::uint16_t* path,
                           std::uint32_t* words, std::uint8_t* code) {
  const int lane = lane_of_warp();
  for (int i = lane; i < codec.code_bytes / 4 + 1; i += warp_size) words[i] = 0;
  __syncwarp();
  int begin = 0;  // of the plane
  for (int plane = 0; plane < max_width; ++plane) {
    const int count = codec.ends[plane + 1];
    for (int first = 0; first < count; first += warp_size) {
      const int k = first + lane;
      unsigned bit = 0;
      if (k < count) bit = (plane == 0 ? path[k] : path[k] >> (memory + plane)) & 1U;
      const std::uint32_t word = __ballot_sync(trellis_search::all_lanes, bit != 0);
      if (lane == 0) trellis_search::put_bits(words, begin + first, word);
    }
    begin += count;
  }
  if (lane == 0) {
    trellis_search::put_bits(words, codec.centroid_bit(), static_cast<std::uint32_t>(choice.centroid));
    trellis_search::put_bits(words, codec.scale_bit(), static_cast<std::uint32_t>(choice.scale_code));
  }
  __syncwarp();
  for (int i = lane; i < codec.code_bytes; i += warp_size)
    code[i] = reinterpret_cast<const std::uint8_t*>(words)[i];
  __syncwarp();
}

template <int memory, bool half_rows>
__global__ void __launch_bounds__(most_warps* warp_size, 1)
    encode_kernel(const __grid_constant__ CalibratedView codec,
                  const __grid_constant__ CalibratedTrellisView trellis, ElementType type, const void* x,
                  std::int64_t n, std::uint8_t* codes, unsigned long long* refusals) {
  extern __shared__ uint4 shared_words[];
  const EncodeLayout layout(codec, trellis);
  auto* const values = reinterpret_cast<float*>(shared_words);
  auto* const rows = reinterpret_cast<uint2*>(values + layout.values);
  float* const factors = values + layout.values + layout.rows;
  float* const columns = factors + layout.factors;
  int* const pairs = reinterpret_cast<int*>(values + layout.pair_offset());
  int* const counts = pairs + layout.pairs;
  float* const scratch = values + layout.warp_offset();

  const auto thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int warp = thread / warp_size, lane = lane_of_warp(), warps = threads / warp_size;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  for (int i = thread; i < trellis.shared_values; i += threads) values[i] = __ldg(trellis.values + i);
  for (int i = thread; half_rows && i < trellis.shared_rows; i += threads) rows[i] = trellis.packed_rows[i];
  for (int i = thread; i < layout.factors; i += threads) factors[i] = __ldg(trellis.factors + i);

  // Pairs of centroid and scale, a thread a key: the first warp finds the centroids, every warp the costs of
  // scale codes around one, and the first warp puts them in order.
  {
    float* const before = scratch + 2 * level_table;
    float* const choice_costs = before + layout.columns;
    int* const choices = reinterpret_cast<int*>(choice_costs + layout.choices);
    float* const costs = reinterpret_cast<float*>(choices + layout.choices);
    const CalibratedArrays arrays{scratch,        scratch + level_table, before,         before + lane,
                                  columns + lane, choice_costs + lane,   choices + lane, nullptr,
                                  nullptr};
    const PairSearch search(codec, arrays);
    if (warp == 0) {
      arrays.load_tables(codec);
      load_elements(codec, type, x, first, count, before, refusals);
      if (lane < count) {
        if (!search.transform()) refuse(refusals, first + lane, Refusal::transform);
        search.rank();
      }
    }
    __syncthreads();
    const int tried = codec.tried_centroids(), scale_codes = 2 * codec.scale_radius + 1;
    for (int t = warp; lane < count && t < tried; t += warps) {
      const KeyChoice nearest = KeyChoice::unpack(choices[t * warp_size + lane]);
      float* const own = costs + t * scale_codes * warp_size + lane;
      for (int i = 0; i < scale_codes; ++i) own[i * warp_size] = INFINITY;
      search.around(nearest, [&](const KeyChoice& choice) {
        own[(choice.scale_code - nearest.scale_code + codec.scale_radius) * warp_size] = choice.cost;
      });
    }
    __syncthreads();
    if (warp == 0 && lane < count) {
      PairList list{costs + layout.costs + lane, pairs + lane, trellis.candidates};
      for (int i = 0; i < tried * scale_codes; ++i) {
        KeyChoice choice = KeyChoice::unpack(choices[i / scale_codes * warp_size + lane]);
        choice.scale_code += i % scale_codes - codec.scale_radius;
        choice.cost = costs[i * warp_size + lane];
        list.offer(choice);
      }
      counts[lane] = list.count;
    }
  }
  __syncthreads();

  const TrellisLevelReader<half_rows> levels{trellis, values, rows,
                                             layout.factors > 0 ? factors : trellis.factors};
  for (int key = warp; key < count; key += warps) {
    const TrellisWarp<half_rows> own(codec, levels, layout.warp, scratch + warp * layout.warp.words(),
                                     columns + key);
    const KeyTrellisSearch<memory, half_rows> search(codec, own, layout.warp);
    KeyChoice best;
    if (counts[key] > 0) best = search.find(pairs + key, warp_size, counts[key]);
    if (!(best.cost < INFINITY)) {
      if (lane == 0) refuse(refusals, first + key, Refusal::cost);
      continue;
    }
    write_code<memory>(codec, best, own.path(search.best_path()),
                       reinterpret_cast<std::uint32_t*>(own.scratch()),
                       codes + (first + key) * codec.code_bytes);
  }
}

auto kernel_of(const CalibratedTrellisView& trellis) {
  const bool packed = trellis.packed_rows != nullptr;
  if (trellis.memory == 3) return packed ? encode_kernel<3, true> : encode_kernel<3, false>;
  return packed ? encode_kernel<5, true> : encode_kernel<5, false>;
}

}  // namespace

CalibratedTrellisEncoder::CalibratedTrellisEncoder(const CalibratedView& codec,
                                                   const CalibratedTrellisView& trellis) {
  const EncodeLayout layout(codec, trellis);
  int gpu = 0, most_bytes = 0;
  check(cudaGetDevice(&gpu), "choice of a GPU");
  check(cudaDeviceGetAttribute(&most_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, gpu),
        "look-up of the GPU");
  // As many warps as a GPU holds at a time, in few and even rounds over a block's keys.
  int most = 0;
  for (int warps = 1; warps <= most_warps && layout.bytes(warps) <= static_cast<std::size_t>(most_bytes);
       ++warps) {
    const int rounds = (warp_size + warps - 1) / warps;
    const int resident =
        resident_blocks("encode", kernel_of(trellis), warps * warp_size, layout.bytes(warps)) * warp_size /
        rounds;
    if (resident < most) continue;
    most = resident;
    warps_ = warps;
  }
  shared_bytes_ = layout.bytes(warps_);
}

void CalibratedTrellisEncoder::encode(cudaStream_t stream, const CalibratedView& codec,
                                      const CalibratedTrellisView& trellis, const ConstDeviceTensor& x,
                                      std::uint8_t* codes, unsigned long long* refusals) const {
  launch_tiles("encode", kernel_of(trellis), stream, x.rows, warp_size, warps_, shared_bytes_, codec, trellis,
               x.type, x.data, x.rows, codes, refusals);
}

}  // namespace rotorquant::device

#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/scalar_rows.cuh"
#include "rotorquant/device/trellis_encode.cuh"
#include "rotorquant/device/trellis_search.cuh"

namespace rotorquant::device {
namespace {

using namespace trellis_search;

constexpr int most_warps = 8;  // a block
// Wider symbols have tables too large for shared memory.
constexpr int max_shared_bits = 4;
constexpr std::size_t half_shared_bytes = 110 << 10;  // of a multiprocessor's

__device__ float load_element(const void* x, ElementType type, std::int64_t i) {
  switch (type) {
    case ElementType::float16:
      return to_float(static_cast<const __half*>(x)[i]);
    case ElementType::bfloat16:
      return to_float(static_cast<const __nv_bfloat16*>(x)[i]);
    case ElementType::float32:
      return static_cast<const float*>(x)[i];
  }
  return 0.0F;
}

template <int memory, bool shared_tables>
__global__ void __launch_bounds__(most_warps* warp_size, 2)
    trellis_encode_kernel(const __grid_constant__ TrellisEncode p, int batch) {
  extern __shared__ uint4 shared_words[];
  constexpr int states = 1 << memory;
  const TrellisView& t = p.tables;
  const EncodeLayout layout(t, p.rotation, batch, shared_tables);
  const int warp = static_cast<int>(threadIdx.x) / warp_size,
            warps = static_cast<int>(blockDim.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;

  auto* const scales = reinterpret_cast<float*>(shared_words);
  float* const shared_values = scales + scale_codes;
  auto* const shared_rows = reinterpret_cast<uint2*>(shared_values + (t.value_count + 3) / 4 * 4);
  for (int i = static_cast<int>(threadIdx.x); i < scale_codes; i += static_cast<int>(blockDim.x))
    scales[i] = t.scales[i];
  if constexpr (shared_tables) {
    for (int i = static_cast<int>(threadIdx.x); i < t.value_count; i += static_cast<int>(blockDim.x))
      shared_values[i] = t.values[i];
    for (int i = static_cast<int>(threadIdx.x); i < t.row_count; i += static_cast<int>(blockDim.x))
      shared_rows[i] = pack_row(t.rows[i]);
  }
  __syncthreads();

  auto* const steps = reinterpret_cast<float2*>(scales + layout.table_words + warp * layout.warp_words);
  float* const rows = reinterpret_cast<float*>(steps) + layout.step_words;
  auto* const survivors = reinterpret_cast<std::uint32_t*>(rows + layout.row_words);
  std::uint32_t* const words = survivors + layout.survivor_words;
  const Encoder<memory, shared_tables> encoder{
      t, layout, scales, shared_tables ? shared_values : t.values, shared_rows, steps};

  const std::int64_t batches = (p.n + batch - 1) / batch;
  for (std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * warps + warp; b < batches;
       b += static_cast<std::int64_t>(gridDim.x) * warps) {
    const std::int64_t first = b * batch;
    const int count = static_cast<int>(min(static_cast<std::int64_t>(batch), p.n - first));
    // A lane's own vector; lanes beyond the batch share its last one and write nothing.
    const int own = lane < count ? lane : count - 1;
    for (int r = 0; r < count; ++r) {
      for (int c = lane; c < t.dim; c += warp_size) {
        rows[r * layout.pitch + c] = load_element(p.x, p.type, (first + r) * t.dim + c);
      }
    }
    __syncwarp();
    const float* y = rows + own * layout.pitch;
    int nearest = 0, side = 1;
    if (lane < count) {
      const double energy = squared_norm_of(rows + own * layout.pitch, t.dim);
      if (!isfinite(energy)) {
        refuse(p.refusals, first + lane, Refusal::value);
      } else if (sqrt(energy / t.dim) > static_cast<double>(scales[scale_codes - 1])) {
        refuse(p.refusals, first + lane, Refusal::scale);
      } else {
        y = rotate_exactly(p.rotation, rows + own * layout.pitch, rows + (batch + own) * layout.pitch);
        const double root_mean_square =
            sqrt(inner_product(
                     t.dim, [&](int c) { return y[c]; }, [&](int c) { return y[c]; }) /
                 t.dim);
        nearest = nearest_scale_code(scales, root_mean_square);
        side = static_cast<double>(scales[nearest]) < root_mean_square ? 1 : -1;
      }
    }
    for (int i = lane; i < count * layout.code_pitch; i += warp_size) words[i] = 0;
    __syncwarp();
    const int row_base = p.rotation.kind == RotationProgram::Kind::dense ? batch * layout.pitch : 0;

    double best_gain = 0.0;
    for (int trial = 0; trial < p.scale_trials; ++trial) {
      const int code = nearest + side * (trial % 2 == 1 ? (trial + 1) / 2 : -trial / 2);
      const bool tried = lane < count && nearest != 0 && code >= 1 && code < scale_codes;
      const float inverse = tried ? __fdiv_rn(1.0F, scales[code]) : 0.0F;
      const unsigned wanted = __ballot_sync(all_lanes, tried);
      int seam = 0;
      // Round one finds the register at the seam, round two the path given that.
      for (int round = 0; round < 2; ++round) {
        for (int v = 0; v < count; v += together) {
          if (((wanted >> v) & ((1U << together) - 1U)) == 0) continue;
          float cost[together];
          std::uint32_t* kept[together];
          const bool whole = round == 1 || t.dim <= exhaustive_used;
          const int context = t.dim < seam_context ? t.dim : seam_context;
#pragma unroll
          for (int j = 0; j < together; ++j) {
            const int vector = v + j < count ? v + j : v;
            const float* const row = rows + row_base + vector * layout.pitch;
            const float scale = __shfl_sync(all_lanes, inverse, vector);
            if (whole) {
              encoder.prepare(j, 0, row, scale, 0, t.dim);
            } else {
              encoder.prepare(j, 0, row, scale, t.dim - context, context);
              encoder.prepare(j, context, row, scale, 0, context);
            }
            kept[j] = v + j < count ? survivors + vector * layout.survivor_pitch : nullptr;
          }
          __syncwarp();
          if (round == 1) {
#pragma unroll
            for (int j = 0; j < together; ++j) {
              const int start = __shfl_sync(all_lanes, seam, v + j);
              cost[j] = lane % states == start ? 0.0F : INFINITY;
            }
            encoder.forward(0, t.dim, cost, kept);
          } else if (whole) {
            const float2* at[together];
            int best[together];
#pragma unroll
            for (int j = 0; j < together; ++j) at[j] = encoder.steps_of(j);
            Recursion<memory, Encoder<memory, shared_tables>>(encoder).best_registers(at, t.dim, best);
#pragma unroll
            for (int j = 0; j < together; ++j) {
              if (lane == v + j) seam = best[j];
            }
          } else {
            std::uint32_t* const none[together] = {};
#pragma unroll
            for (int j = 0; j < together; ++j) cost[j] = 0.0F;
            encoder.forward(0, context, cost, none);
            encoder.forward(context, context, cost, kept);
#pragma unroll
            for (int j = 0; j < together; ++j) {
              const int best = best_state(cost[j]);
              if (lane == v + j) seam = best;
            }
          }
          __syncwarp();
        }
        if (round == 0 && t.dim > exhaustive_used) {
          const std::uint32_t* const kept = survivors + own * layout.survivor_pitch;
          const int context = t.dim < seam_context ? t.dim : seam_context;
          for (int i = context - 1; i >= 0; --i) seam = state_before(memory, seam, kept[i]);
          __syncwarp();
        }
      }
      double gain = 0.0;
      int fitted = 0;
      std::uint32_t* const places = survivors + own * layout.survivor_pitch;
      if (tried) {
        encoder.trace(y, inverse, seam, places);
        const auto decoded = [&](int c) { return encoder.values[places[c]]; };
        const double energy = inner_product(t.dim, decoded, decoded);
        const double projection = inner_product(
            t.dim, [&](int c) { return y[c]; }, decoded);
        fitted = energy > 0.0 ? nearest_scale_code(scales, projection / energy) : 0;
        const double scale = scales[fitted];
        gain = __dmul_rn(scale, __dsub_rn(__dmul_rn(2.0, projection), __dmul_rn(scale, energy)));
      }
      const bool better = gain > best_gain;
      if (better) best_gain = gain;
      unsigned packed = __ballot_sync(all_lanes, better);
      for (; packed != 0; packed &= packed - 1) {
        const int v = __ffs(static_cast<int>(packed)) - 1;
        const auto scale_code = static_cast<unsigned>(__shfl_sync(all_lanes, fitted, v));
        pack_vector<memory>(t, survivors + v * layout.survivor_pitch, scale_code,
                            words + v * layout.code_pitch, layout.code_pitch);
      }
    }
    const int bytes = t.bytes_per_vector;
    for (int i = lane; i < count * bytes; i += warp_size) {
      const int v = i / bytes;
      p.codes[first * bytes + i] =
          reinterpret_cast<const std::uint8_t*>(words + v * layout.code_pitch)[i - v * bytes];
    }
    __syncwarp();
  }
}

using EncodeKernel = void (*)(TrellisEncode, int);
EncodeKernel kernel_of(int memory, bool shared_tables) {
  if (memory == 3) return shared_tables ? trellis_encode_kernel<3, true> : trellis_encode_kernel<3, false>;
  return shared_tables ? trellis_encode_kernel<5, true> : trellis_encode_kernel<5, false>;
}

}  // namespace

TrellisEncoder::TrellisEncoder(const TrellisView& tables, const RotationProgram& rotation, int scale_trials)
    : tables_(tables),
      rotation_(rotation),
      scale_trials_(scale_trials),
      tables_shared_(tables.bits <= max_shared_bits) {
  // Two blocks share a multiprocessor where that leaves each enough warps.
  batch_ = tables.dim <= 128 ? 16 : 8;
  for (warps_ = most_warps; warps_ > 1; warps_ /= 2) {
    if (EncodeLayout(tables_, rotation_.view(), batch_, tables_shared_).bytes(warps_) <= half_shared_bytes)
      break;
  }
  shared_bytes_ = EncodeLayout(tables_, rotation_.view(), batch_, tables_shared_).bytes(warps_);
  blocks_ =
      resident_blocks("encode", kernel_of(tables_.memory, tables_shared_), warps_ * warp_size, shared_bytes_);
}

void TrellisEncoder::encode(cudaStream_t stream, const ConstDeviceTensor& x, std::uint8_t* codes,
                            unsigned long long* refusals) const {
  if (x.rows == 0) return;
  const std::int64_t needed = (x.rows + batch_ * warps_ - 1) / (batch_ * warps_);
  kernel_of(tables_.memory, tables_shared_)<<<static_cast<unsigned>(needed < blocks_ ? needed : blocks_),
                                              warps_ * warp_size, shared_bytes_, stream>>>(
      {tables_, rotation_.view(), x.data, x.type, x.rows, codes, refusals, scale_trials_}, batch_);
  check_launch("encode");
}

}  // namespace rotorquant::device

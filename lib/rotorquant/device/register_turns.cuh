#pragma once
// Rotations of one vector that a thread holds in registers, coordinate by coordinate, fully unrolled: every
// index is a compile-time constant and every coefficient an operand from the constant bank (kernel parameters).
//
// A Turn has: dim; Parameters; parameters(program): what the host must pass, nothing if the program is not of this form;
// backward(fill, p, sink): fill(w, x) sets x[32 w ..] of a float[dim]; calls sink(chunk, x) for chunk = 0, 1, .. once x[8 chunk .. 8
// chunk + 7] are those of backward_scale R^T x; decode_blocks: blocks of four warps a multiprocessor holds, set by the registers
// a vector takes. Rotors also have encode_blocks and forward(x, p, sink): calls sink(c, z_c) for c = dim - 1 .. 0 with z = -R x,
// where a zero vector gives no -0.0 (the sign bit then says "y > 0" exactly); x(c) is coordinate c, a number that costs a
// conversion.
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "rotorquant/rotations/rotation_program.hpp"

namespace rotorquant::device {

// Rotors on blocks of K = 3 consecutive coordinates, a left-over pair, and a left-over one, which stays.
template <int D>
struct RotorTurn {
  static constexpr int dim = D;
  static constexpr int K = 3;
  static constexpr int blocks = D / K;
  static constexpr int left = D % 3 == 2 ? 2 : 0;
  static constexpr int encode_blocks = 4;
  static constexpr int decode_blocks = 5;
  static constexpr float backward_scale = 1.0F;

  struct Parameters {
    float matrix[blocks][K * K];  // row-major
    float pair[4];
  };

  // Blocks follow one another, so that nothing but the packed input is held.
  template <int N, typename Row, typename Sink>
  static __device__ __forceinline__ void turn_forward(int first, const float* m, const Row& x,
                                                      const Sink& sink) {
    float in[N];
#pragma unroll
    for (int j = 0; j < N; ++j) in[j] = x(first + j);
#pragma unroll
    for (int i = N - 1; i >= 0; --i) {
      // The first product is added to +0: a sum that starts at -0 could end there.
      float sum = 0.0F;
#pragma unroll
      for (int j = 0; j < N; ++j) sum = fmaf(-m[N * i + j], in[j], sum);
      sink(first + i, sum);
    }
  }
  template <typename Row, typename Sink>
  static __device__ __forceinline__ void forward(const Row& x, const Parameters& p, const Sink& sink) {
    if constexpr (K * blocks + left < D) sink(D - 1, 0.0F - x(D - 1));
    if constexpr (left == 2) turn_forward<2>(K * blocks, p.pair, x, sink);
#pragma unroll
    for (int g = blocks - 1; g >= 0; --g) turn_forward<K>(K * g, p.matrix[g], x, sink);
  }

  template <int N>
  static __device__ __forceinline__ void turn_backward(float* x, const float* m) {
    float in[N];
#pragma unroll
    for (int j = 0; j < N; ++j) in[j] = x[j];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      float sum = m[i] * in[0];
#pragma unroll
      for (int j = 1; j < N; ++j) sum = fmaf(m[N * j + i], in[j], sum);
      x[i] = sum;
    }
  }
  // Word by word, so that few coordinates are held at a time.
  template <typename Fill, typename Sink>
  static __device__ __forceinline__ void backward(const Fill& fill, const Parameters& p, const Sink& sink) {
    float x[D];
#pragma unroll
    for (int w = 0; w < (D + 31) / 32; ++w) {
      const int end = 32 * w + 32 < D ? 32 * w + 32 : D;  // coordinates filled so far
      fill(w, x);
#pragma unroll
      for (int g = 0; g < blocks; ++g) {
        if (K * g + K <= end && K * g + K > 32 * w) turn_backward<K>(x + K * g, p.matrix[g]);
      }
      if constexpr (left == 2) {
        if (end == D) turn_backward<2>(x + K * blocks, p.pair);
      }
      // Chunks whose last coordinate belongs to a block that is done.
#pragma unroll
      for (int chunk = 0; chunk < D / 8; ++chunk) {
        const int done = end == D ? D : end / K * K;
        const int before = 32 * w / K * K;
        if (8 * chunk + 8 <= done && 8 * chunk + 8 > before) sink(chunk, x);
      }
    }
  }

  static std::optional<Parameters> parameters(const RotationProgram& program) {
    if (program.kind != RotationProgram::Kind::steps || program.input_dim != D || program.output_dim != D ||
        program.steps.size() != static_cast<std::size_t>(blocks + left / 2)) {
      return std::nullopt;
    }
    Parameters p{};
    for (int g = 0; g < blocks + left / 2; ++g) {
      const RotationStep& step = program.steps[static_cast<std::size_t>(g)];
      const int size = g < blocks ? K : 2;
      for (int i = 0; i < 4; ++i) {
        if (step.index[static_cast<std::size_t>(i)] != (i < size ? K * g + i : -1)) return std::nullopt;
      }
      for (int i = 0; i < size; ++i) {
        for (int j = 0; j < size; ++j) {
          (g < blocks ? p.matrix[g] : p.pair)[size * i + j] =
              step.matrix[static_cast<std::size_t>(4 * i + j)];
        }
      }
    }
    return p;
  }
};

// The transpose of the flat cascade (rotations/cascade.hpp). A layer of the cascade is H (s x) on each triple, H the half-turn
// (H x)_i = 2/3 (x_0 + x_1 + x_2) - x_i. The transpose is s (H y) layer by layer from the last: each sign is left to the layer that
// comes next, which then is H (s x) again, and the signs of the first layer are multiplied in at the end. Times 3/2 a layer takes six
// fused operations: S = sum s_j x_j, then S - 1.5 s_i x_i; the factor (3/2)^layers is taken back by the caller.
template <int D>
struct CascadeTurn {
  static constexpr int dim = D;
  static constexpr int triples = D / 3;
  static constexpr int left = D % 3;

  static constexpr int count_layers() {
    int layers = 1;
    for (int reach = 1; reach < D; reach *= 3) ++layers;
    return layers;
  }
  static constexpr int layers = count_layers();
  static constexpr float power() {
    float scale = 1.0F;
    for (int l = 0; l < layers; ++l) scale *= 1.5F;
    return scale;
  }
  static constexpr int decode_blocks = D > 64 ? 3 : 4;
  static constexpr float backward_scale = power();

  // Coordinates in the order that each layer meets them; the shuffles of cascade_shuffle.hpp at the default number of
  // layers. Parameters are refused if the program says otherwise.
  using Orders = std::array<std::array<int, D>, static_cast<std::size_t>(layers)>;
  static constexpr Orders make_orders() {
    std::array<int, D> shuffle{};
    int next = 0;
    for (int pile = 0; pile < 3; ++pile) {
      for (int i = pile; i < D; i += 3) shuffle[static_cast<std::size_t>(next++)] = i;
    }
    if (D == 80) {
      for (int i = 0; i < D; ++i) shuffle[static_cast<std::size_t>(i)] = i * 23 % D;
    }
    Orders orders{};
    for (int i = 0; i < D; ++i) orders[0][static_cast<std::size_t>(i)] = i;
    for (int l = 1; l < layers; ++l) {
      for (std::size_t i = 0; i < D; ++i) {
        orders[static_cast<std::size_t>(l)][i] =
            orders[static_cast<std::size_t>(l - 1)][static_cast<std::size_t>(shuffle[i])];
      }
    }
    return orders;
  }
  static constexpr Orders orders = make_orders();

  // Of each layer in the order of use: signs, 1.5 times signs, and the matrix of what is left (1.5 included).
  struct Layer {
    float sign[triples][3];
    float raised[triples][3];
    float rest[4];
  };
  struct Parameters {
    Layer layer[layers];
    float last_sign[D];  // backward: factors of the first layer, by coordinate
  };

  template <int l, int place>
  static constexpr int at = orders[static_cast<std::size_t>(l)][static_cast<std::size_t>(place)];

  template <int l, int t>
  static __device__ __forceinline__ void turn_triple(float (&x)[D], const Layer& p) {
    float& a = x[at<l, 3 * t>];
    float& b = x[at<l, 3 * t + 1>];
    float& c = x[at<l, 3 * t + 2>];
    const float sum = fmaf(p.sign[t][2], c, fmaf(p.sign[t][1], b, p.sign[t][0] * a));
    a = fmaf(-p.raised[t][0], a, sum);
    b = fmaf(-p.raised[t][1], b, sum);
    c = fmaf(-p.raised[t][2], c, sum);
  }

  template <int l, int... t>
  static __device__ __forceinline__ void run_layer(float (&x)[D], const Layer& p,
                                                   std::integer_sequence<int, t...>) {
    (turn_triple<l, t>(x, p), ...);
    if constexpr (left > 0) {
      constexpr int first = at<l, 3 * triples>;
      if constexpr (left == 1) {
        x[first] *= p.rest[0];
      } else {
        constexpr int second = at<l, 3 * triples + 1>;
        const float a = x[first], b = x[second];
        x[first] = fmaf(p.rest[1], b, p.rest[0] * a);
        x[second] = fmaf(p.rest[3], b, p.rest[2] * a);
      }
    }
  }

  template <int place>
  static __device__ __forceinline__ void run(float (&x)[D], const Parameters& p) {
    if constexpr (place < layers) {
      run_layer<layers - 1 - place>(x, p.layer[place], std::make_integer_sequence<int, triples>{});
      run<place + 1>(x, p);
    }
  }
  template <typename Fill, typename Sink>
  static __device__ __forceinline__ void backward(const Fill& fill, const Parameters& p, const Sink& sink) {
    float x[D];
#pragma unroll
    for (int w = 0; w < (D + 31) / 32; ++w) fill(w, x);
    run<0>(x, p);
#pragma unroll
    for (int i = 0; i < D; ++i) x[i] *= p.last_sign[i];
#pragma unroll
    for (int chunk = 0; chunk < D / 8; ++chunk) sink(chunk, x);
  }

  // Signs of the program's triples and its planes, by layer; nothing unless it is this cascade.
  struct Description {
    float sign[layers][triples][3];
    float rest[layers][4];
  };
  static std::optional<Description> describe(const RotationProgram& program) {
    constexpr int planes = left == 2 ? 1 : 0;
    if (program.kind != RotationProgram::Kind::steps || program.input_dim != D || program.output_dim != D ||
        program.steps.size() != static_cast<std::size_t>(layers * (triples + planes))) {
      return std::nullopt;
    }
    Description description{};
    auto step = program.steps.begin();
    for (int l = 0; l < layers; ++l) {
      const auto& order = orders[static_cast<std::size_t>(l)];
      for (int t = 0; t < triples; ++t, ++step) {
        for (int j = 0; j < 3; ++j) {
          const int row = j == 0 ? 1 : 0;  // off the diagonal the entry is 2/3 s_j
          const float sign = step->matrix[static_cast<std::size_t>(4 * row + j)] > 0.0F ? 1.0F : -1.0F;
          description.sign[l][t][j] = sign;
          if (step->index[static_cast<std::size_t>(j)] != order[static_cast<std::size_t>(3 * t + j)]) {
            return std::nullopt;
          }
          for (int i = 0; i < 3; ++i) {
            const float flat = sign * (i == j ? -1.0F / 3.0F : 2.0F / 3.0F);
            if (std::fabs(step->matrix[static_cast<std::size_t>(4 * i + j)] - flat) > 1e-6F)
              return std::nullopt;
          }
        }
      }
      description.rest[l][0] = 1.0F;
      if constexpr (left == 2) {
        for (int i = 0; i < 2; ++i) {
          if (step->index[static_cast<std::size_t>(i)] != order[static_cast<std::size_t>(3 * triples + i)]) {
            return std::nullopt;
          }
          for (int j = 0; j < 2; ++j) {
            description.rest[l][2 * i + j] = step->matrix[static_cast<std::size_t>(4 * i + j)];
          }
        }
        ++step;
      }
    }
    return description;
  }

  static std::optional<Parameters> parameters(const RotationProgram& program) {
    const std::optional<Description> description = describe(program);
    if (!description) return std::nullopt;
    Parameters p{};
    std::array<float, D> sign;  // left over from the layers done so far, by coordinate
    sign.fill(1.0F);
    for (int place = 0; place < layers; ++place) {
      const int l = layers - 1 - place;
      const auto& order = orders[static_cast<std::size_t>(l)];
      for (int t = 0; t < triples; ++t) {
        for (int j = 0; j < 3; ++j) {
          float& s = sign[static_cast<std::size_t>(order[static_cast<std::size_t>(3 * t + j)])];
          p.layer[place].sign[t][j] = s;
          p.layer[place].raised[t][j] = 1.5F * s;
          s = description->sign[l][t][j];
        }
      }
      if (left == 0) continue;
      float* const first = &sign[static_cast<std::size_t>(order[static_cast<std::size_t>(3 * triples)])];
      float* const second =
          left == 1 ? first
                    : &sign[static_cast<std::size_t>(order[static_cast<std::size_t>(3 * triples + 1)])];
      const float* const rest = description->rest[l];
      const float transposed[4] = {rest[0] * *first, rest[2] * *second, rest[1] * *first, rest[3] * *second};
      for (int i = 0; i < 4; ++i) p.layer[place].rest[i] = 1.5F * transposed[i];
      *first = *second = 1.0F;
    }
    for (std::size_t i = 0; i < D; ++i) p.last_sign[i] = sign[i];
    return p;
  }
};

}  // namespace rotorquant::device
